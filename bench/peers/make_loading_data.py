"""Makes the data of the benchmark `loading`: make_loading_data.py FOLDER [quick]. What is there already stays.

    jpeg/CLASS/N.jpg      photos of 400 x 300: smooth noise at many scales with edges, some 40 kB each at quality 90
    png/CLASS/N.png       the same at 64 x 64
    shards/N.tar          the photos as WebDataset has them, with .jpg and .cls
    tokens.bin            random tokens below 50,257 as uint16
    paths/CLASS/N.png     names of a million images: links to one of each class
"""
import io
import os
import shutil
import sys
import tarfile

import numpy as np
from PIL import Image

CLASSES = 10
FULL = {"photos": 640, "small": 4000, "shards": 4, "tokens": 100_000_000, "folders": 1000, "links": 1000}
QUICK = {"photos": 40, "small": 80, "shards": 2, "tokens": 200_000, "folders": 10, "links": 20}


def picture(random, height, width):
    """Noise whose amplitude falls with its frequency, as in photos, and rectangles with sharp edges."""
    image = np.zeros((height, width, 3), np.float32)
    size = 2
    while size < max(height, width):
        noise = Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8).astype(np.uint8))
        image += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), np.float32) / size ** 0.55
        size *= 2
    for _ in range(6):
        top, left = random.integers(0, height), random.integers(0, width)
        image[top:top + height // 4, left:left + width // 5] += random.normal(0, 40, 3)
    image -= image.min()
    return Image.fromarray((image / image.max() * 255).astype(np.uint8))


def save(folder, name, make):
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return
    shutil.rmtree(path + ".part", ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    make(path + ".part")
    os.rename(path + ".part", path)


def images(count, height, width, suffix, **how):
    def make(folder):
        random = np.random.default_rng(1)
        for i in range(count):
            place = os.path.join(folder, f"class{i % CLASSES}")
            os.makedirs(place, exist_ok=True)
            picture(random, height, width).save(os.path.join(place, f"{i:05}.{suffix}"), **how)
    return make


def shards(folder, jpegs, count):
    names = sorted(os.path.join(place, name) for place, _, names in os.walk(jpegs) for name in names)
    os.makedirs(folder)
    for shard in range(count):
        with tarfile.open(os.path.join(folder, f"{shard:04}.tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in names[shard::count]:
                stem = os.path.splitext(os.path.basename(path))[0]
                tar.add(path, stem + ".jpg")
                label = os.path.basename(os.path.dirname(path))[len("class"):].encode()
                info = tarfile.TarInfo(stem + ".cls")
                info.size = len(label)
                tar.addfile(info, io.BytesIO(label))


def tokens(path, count):
    np.random.default_rng(2).integers(0, 50257, count, np.uint16).tofile(path)


def paths(folder, folders, links):
    random = np.random.default_rng(3)
    for i in range(folders):
        place = os.path.join(folder, f"class{i:04}")
        os.makedirs(place)
        first = os.path.join(place, "000000.png")
        picture(random, 64, 64).save(first)
        for j in range(1, links):
            os.link(first, os.path.join(place, f"{j:06}.png"))


def main():
    folder = sys.argv[1]
    sizes = QUICK if "quick" in sys.argv else FULL
    save(folder, "jpeg", images(sizes["photos"], 300, 400, "jpg", quality=90))
    save(folder, "png", images(sizes["small"], 64, 64, "png"))
    save(folder, "shards", lambda part: shards(part, os.path.join(folder, "jpeg"), sizes["shards"]))
    save(folder, "tokens.bin", lambda part: tokens(part, sizes["tokens"]))
    save(folder, "paths", lambda part: paths(part, sizes["folders"], sizes["links"]))


if __name__ == "__main__":
    main()
