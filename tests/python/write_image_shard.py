"""Writes a tar shard of six images, 20 to 25 rows of 30 pixels, PNG and JPEG in turn, with their number as the class:
write_image_shard.py FILE."""
import io
import sys
import tarfile

import numpy as np
from PIL import Image

with tarfile.open(sys.argv[1], "w") as tar:
    for number in range(6):
        kind = "png" if number % 2 == 0 else "jpg"
        image = io.BytesIO()
        pixels = np.full((20 + number, 30, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(image, "PNG" if kind == "png" else "JPEG")
        for extension, content in [(kind, image.getvalue()), ("cls", str(number).encode())]:
            entry = tarfile.TarInfo(f"{number:06}.{extension}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
