"""What torchvision computes: torchvision_values.py CASES INPUTS OUTPUTS

CASES has a line for each case, "<input>\t<expression>"; INPUTS is a safetensors file of the inputs, which expressions
know as `image`. OUTPUTS gets the value of each expression under the number of its line.
"""
import sys

import torch
from safetensors.torch import load_file, save_file
from torchvision.transforms import v2 as T
from torchvision.transforms.v2 import functional as F

torch.set_num_threads(1)


def seeded(seed, make):
    torch.manual_seed(seed)
    return make()


def mixed(transform, images, **params):
    """Images and labels that MixUp or CutMix makes with given parameters; each sample's label is its place modulo 5."""
    labels = torch.arange(len(images)) % 5
    params = {**params, "labels": labels, "batch_size": len(images)}
    return transform.transform(images, params), transform.transform(labels, params)


cases, inputs, outputs = sys.argv[1:]
images = load_file(inputs)
results = {}
with open(cases) as file:
    for number, line in enumerate(file):
        name, expression = line.rstrip("\n").split("\t")
        names = dict(T=T, F=F, torch=torch, seeded=seeded, mixed=mixed, image=images[name])
        results[str(number)] = torch.as_tensor(eval(expression, names)).contiguous().clone()
save_file(results, outputs)
