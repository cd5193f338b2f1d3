"""How fast the safetensors package and torch.load read weights, for bench/run weights.

    torch_weights.py whole|sharded|selective|pth FOLDER REPEATS

The files, the cases and the numbers of bench/weights.cpp.
"""
import glob
import os
import statistics
import sys
import time

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from common import report

WHAT, FOLDER, REPEATS = sys.argv[1], sys.argv[2], int(sys.argv[3])
WHOLE = os.path.join(FOLDER, "whole/model.safetensors")


def load():
    if WHAT == "pth":
        return torch.load(os.path.join(FOLDER, "weights.pth"), mmap=True, weights_only=True)
    if WHAT == "whole":
        return load_file(WHOLE)
    if WHAT == "sharded":
        shards = sorted(glob.glob(os.path.join(FOLDER, "sharded/*.safetensors")))
        return {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    with safe_open(WHOLE, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if len(name.split(".")[1]) == 1}


def load_once(memory):
    start = time.perf_counter()
    weights = load()
    opened = time.perf_counter() - start
    size = 0
    for tensor in weights.values():
        memory[:tensor.numel()].copy_(tensor.view(-1))
        size += tensor.nbytes
    return opened * 1e3, (time.perf_counter() - start) * 1e3 / (size / 1e9)


def main():
    torch.set_num_threads(1)
    memory = torch.zeros(2048 * 2048)
    load_once(memory)
    opened, per_gb = zip(*(load_once(memory) for _ in range(REPEATS)))
    report(ms_per_gb=statistics.median(per_gb), open_ms=statistics.median(opened))


if __name__ == "__main__":
    with torch.no_grad():
        main()
