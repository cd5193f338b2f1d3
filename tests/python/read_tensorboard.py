"""Prints as JSON what the tensorboard package reads from a folder: read_tensorboard.py FOLDER."""

import dataclasses
import io
import json
import logging
import sys

import numpy
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2


def hparams_of(accumulator):
    metadata = accumulator.summary_metadata.get("_hparams_/session_start_info")
    if metadata is None or metadata.plugin_data.plugin_name != "hparams":
        return {}
    data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in data.session_start_info.hparams.items()}


def scalar(value):
    return value if numpy.isfinite(value) else str(value)


def main():
    logging.disable(logging.CRITICAL)
    accumulator = event_accumulator.EventAccumulator(
        sys.argv[1], size_guidance={kind: 0 for kind in ("scalars", "histograms", "images", "tensors")}
    )
    accumulator.Reload()
    tags = accumulator.Tags()
    out = {"scalars": {}, "histograms": {}, "images": {}, "texts": {}, "hparams": hparams_of(accumulator)}
    for tag in tags["scalars"]:
        out["scalars"][tag] = [[e.wall_time, e.step, scalar(e.value)] for e in accumulator.Scalars(tag)]
    for tag in tags["histograms"]:
        out["histograms"][tag] = [[e.step, dataclasses.asdict(e.histogram_value)] for e in accumulator.Histograms(tag)]
    for tag in tags["images"]:
        event = accumulator.Images(tag)[0]
        pixels = numpy.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        out["images"][tag] = {"size": [event.height, event.width], "pixels": pixels.tolist()}
    for tag in tags["tensors"]:
        if accumulator.SummaryMetadata(tag).plugin_data.plugin_name == "text":
            event = accumulator.Tensors(tag)[0]
            out["texts"][tag] = [event.step, event.tensor_proto.string_val[0].decode()]
    print(json.dumps(out))


main()
