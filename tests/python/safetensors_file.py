"""Reads and writes safetensors files with Python's package.

safetensors_file.py dump FILE   prints one line of JSON a tensor: name, dtype, shape, values; then the metadata's keys
safetensors_file.py make FILE   writes tensors of every dtype that Troupe knows
safetensors_file.py line FILE   writes the state_dict of a module whose `layer` is y = 2.5 x + 0.5
"""
import json
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e4m3fn,
          torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.bool]


def dump(path):
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            values = tensor.real if tensor.is_complex() else tensor
            print(json.dumps([name, str(tensor.dtype), list(tensor.shape), values.double().flatten().tolist()]))
        print(json.dumps(sorted(file.metadata() or {})))


def make(path):
    tensors = {str(dtype).split(".")[1]: torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype) for dtype in DTYPES}
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 3)
    save_file(tensors, path, metadata={"format": "pt", "who": "J\u00f8rgen \"x\""})


def line(path):
    module = torch.nn.Module()
    module.layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(module.layer.weight, 2.5)
    torch.nn.init.constant_(module.layer.bias, 0.5)
    save_file(module.state_dict(), path)


{"dump": dump, "make": make, "line": line}[sys.argv[1]](sys.argv[2])
