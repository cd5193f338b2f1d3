"""Models in several safetensors files, with Python's packages.

sharded_model.py make FOLDER    writes one with huggingface_hub: every type, tied weights, three shards and an index
sharded_model.py bits FILE...   prints a line of JSON a tensor of the files: name, dtype, shape, bytes in hexadecimal
sharded_model.py load FOLDER... loads each with huggingface_hub into a module of Linear layers `a` and `b` (4 to 4) whose
                                weights are tied; prints the weights and the keys that were missing or left over
sharded_model.py split SIZE N.. prints huggingface_hub's index of F32 tensors t0, t1, ... with N elements
"""
import json
import os
import sys

import torch
from huggingface_hub import load_torch_model, save_torch_state_dict, split_torch_state_dict_into_shards
from safetensors.torch import load_file

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
          "uint64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu",
          "float4_e2m1fn_x2"]


def raw(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes().hex()


def make(folder):
    bits = torch.arange(48, dtype=torch.uint8).view(2, 24)
    tensors = {name: bits.view(getattr(torch, name)) for name in DTYPES}
    # Views of one memory would be taken for tied weights.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    tensors["bool"] = torch.tensor([True, False])
    tensors["tied"] = tensors["float32"]
    os.makedirs(folder)
    save_torch_state_dict(tensors, folder, max_shard_size=400)


def bits(*paths):
    for path in paths:
        for name, tensor in sorted(load_file(path).items()):
            print(json.dumps([name, str(tensor.dtype), list(tensor.shape), raw(tensor)]))


def load(*folders):
    for folder in folders:
        module = torch.nn.Module()
        module.a, module.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, bias=False)
        module.b.weight = module.a.weight
        keys = load_torch_model(module, folder, strict=False)
        print(json.dumps([module.b.weight.flatten().tolist(), module.a.bias.tolist(), sorted(keys.missing_keys),
                          sorted(keys.unexpected_keys)]))


def split(size, *counts):
    tensors = {f"t{i}": torch.zeros(int(count)) for i, count in enumerate(counts)}
    found = split_torch_state_dict_into_shards(tensors, max_shard_size=int(size))
    print(json.dumps([found.tensor_to_filename, found.metadata["total_size"]]))


{"make": make, "bits": bits, "load": load, "split": split}[sys.argv[1]](*sys.argv[2:])
