"""SPDL: threads that demux, decode, crop and resize by FFmpeg, and one stage that makes a normalized batch."""
import random
import sys

import spdl.io
import torch
from common import report
from loading_common import BATCH, MEAN, STD, arguments, files, rate
from spdl.pipeline import PipelineBuilder

torch.set_num_threads(1)
SCALE = torch.tensor([1 / (255 * each) for each in STD]).view(1, 3, 1, 1)
SHIFT = torch.tensor([-m / s for m, s in zip(MEAN, STD)]).view(1, 3, 1, 1)


def resized_crop(height, width):
    """torchvision's RandomResizedCrop(224), as a filter."""
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1)
        aspect = 2.718281828 ** random.uniform(-0.28768, 0.28768)
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w = h = min(height, width)
    x, y = random.randint(0, width - w), random.randint(0, height - h)
    return f"crop={w}:{h}:{x}:{y}:exact=1,scale=224:224:flags=bilinear"


def padded_crop(_, __):
    return f"pad=72:72:4:4,crop=64:64:{random.randint(0, 8)}:{random.randint(0, 8)}:exact=1"


def main():
    case, folder, threads, seconds = arguments()
    crop = resized_crop if case == "jpeg" else padded_crop
    data = files(f"{folder}/{case}")
    height, width = (300, 400) if case == "jpeg" else (64, 64)

    def decode(item):
        path, label = item
        flip = ",hflip" if random.random() < 0.5 else ""
        filters = f"{crop(height, width)}{flip},format=pix_fmts=rgb24"
        return spdl.io.decode_packets(spdl.io.demux_image(path), filter_desc=filters), label

    def collate(items):
        frames, labels = zip(*items)
        images = spdl.io.to_torch(spdl.io.convert_frames(list(frames)))
        images = images.permute(0, 3, 1, 2).contiguous().float().mul_(SCALE).add_(SHIFT)
        return images, torch.tensor(labels)

    def epoch():
        random.shuffle(data)
        pipeline = (PipelineBuilder().add_source(data).pipe(decode, concurrency=threads).aggregate(BATCH).pipe(collate)
                    .add_sink(4).build(num_threads=threads))
        samples = 0
        with pipeline.auto_stop():
            for images, _ in pipeline:
                samples += len(images)
                yield len(images)
        if samples < len(data):  # it leaves out what a stage throws for
            sys.exit(f"SPDL left out {len(data) - samples} of {len(data)} images")

    report(samples=rate(epoch, seconds))


if __name__ == "__main__":
    main()
