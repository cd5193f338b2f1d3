"""Writes images of many kinds, with the pixels that Pillow reads from them: images.py FOLDER.

Prints a line for each: file's name, mode ("rgb", "grey", "upright"), channels, height, width. The pixels, one channel
after the other, are in FOLDER/<name>.<mode>. "upright" is RGB turned as the EXIF orientation says.
"""
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIZES = [(64, 64), (65, 63), (17, 9), (1, 1), (3, 70)]


def picture(width, height):
    y, x = np.mgrid[0:height, 0:width] / 9.0
    channels = [np.sin(x + c) * np.cos(y * (c + 1)) * 90 + 128 for c in range(3)]
    noise = np.random.default_rng(1).integers(-30, 31, (height, width, 3))
    return Image.fromarray((np.stack(channels, 2) + noise).astype(np.uint8))


def write_jpegs(folder, image, name):
    for subsampling, text in enumerate(["444", "422", "420"]):
        for progressive in (False, True):
            image.save(folder / f"{name}_{text}_{progressive}.jpg", subsampling=subsampling, progressive=progressive)
    image.save(folder / f"{name}_restarts.jpg", restart_marker_blocks=2)
    image.save(folder / f"{name}_rgb.jpg", keep_rgb=True)
    image.convert("L").save(folder / f"{name}_grey.jpg")
    image.convert("CMYK").save(folder / f"{name}_cmyk.jpg")


def write_pngs(folder, image, name):
    grey = image.convert("L")
    alpha = image.copy()
    alpha.putalpha(grey)
    alpha.save(folder / f"{name}_rgba.png")
    alpha.convert("LA").save(folder / f"{name}_grey_alpha.png")
    image.save(folder / f"{name}_rgb.png")
    grey.save(folder / f"{name}_grey.png")
    image.convert("1").save(folder / f"{name}_bits.png")
    image.convert("P").save(folder / f"{name}_palette.png")
    image.convert("P").save(folder / f"{name}_transparent.png", transparency=3)
    image.quantize(4).save(folder / f"{name}_palette2.png", bits=2)
    write_raw_png(folder / f"{name}_interlaced.png", np.asarray(image), True)
    write_raw_png(folder / f"{name}_deep.png", (np.asarray(image).astype(np.uint16) * 256 + 200).astype(">u2"), False)
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257 + 3).save(folder / f"{name}_16bit.png")


def write_raw_png(path, values, interlaced):
    """What Pillow does not write: RGB of 16 bits and interlaced images."""
    height, width, _ = values.shape
    # Column and row of the first pixel, and steps, of Adam7's passes.
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    passes = [values[y::down, x::right] for x, y, right, down in (adam7 if interlaced else [(0, 0, 1, 1)])]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, 2, 0, 0, int(interlaced))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) +
                     chunk(b"IEND", b""))


def put(path, mode, pixels):
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    pixels.tofile(f"{path}.{mode}")
    print(path.name, mode, *pixels.shape)


def put_pixels(path):
    if path.name.endswith("_16bit.png"):  # Pillow would clip it at 255
        grey = (np.asarray(Image.open(path)) >> 8).astype(np.uint8)
        put(path, "rgb", np.stack([grey] * 3, 2))
        return put(path, "grey", grey)
    put(path, "rgb", np.asarray(Image.open(path).convert("RGB")))
    grey = Image.open(path)
    if path.suffix == ".jpg" and "cmyk" not in path.name and "_rgb" not in path.name:
        grey.draft("L", grey.size)  # the luma that the file holds
    put(path, "grey", np.asarray(grey.convert("L")))


def main(folder):
    for width, height in SIZES:
        image, name = picture(width, height), f"{width}x{height}"
        write_jpegs(folder, image, name)
        write_pngs(folder, image, name)
    for path in sorted([*folder.glob("*.jpg"), *folder.glob("*.png")]):
        put_pixels(path)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for ending in ("jpg", "png"):
            path = folder / f"turned{orientation}.{ending}"
            picture(37, 22).save(path, exif=exif)
            put(path, "upright", np.asarray(ImageOps.exif_transpose(Image.open(path))))


main(Path(sys.argv[1]))
