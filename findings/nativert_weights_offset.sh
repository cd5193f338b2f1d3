#!/usr/bin/env bash
# nativert, PyTorch's C++ runtime for exported programs, reads weights that are a part of a tensor from that tensor's start.
#
# Expected: two parameters that are the halves of one tensor, saved in a .pt2 file by torch.export.save, have their own
# values in any runtime. Weights lie so where one tensor holds many, to be reduced or stepped at once.
# Happens: torch.export.load gives the second half its values, nativert those of the first half. So it is with buffers, and
# with tensors that are constants of the program: the file says at which offset a tensor begins, nativert takes 0. Shapes and
# strides are right, so there is no error.
#
# Version: torch 2.11.0, through the Python binding of nativert that comes with it
# Source: torch/nativert/executor/Weights.cpp of PyTorch (loadAndInsert), and torch/_export/serde/schema.py, whose
# TensorMeta has a storage_offset
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
# --no-deps, and only what `import torch` needs: PyTorch does not load without the CUDA libraries that it is linked to.
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
  torch==2.11.0 typing_extensions==4.16.0 nvidia-cublas==13.1.0.3 nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96 \
  nvidia-cudnn-cu13==9.19.0.56 nvidia-cufft==12.0.0.61 nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35 \
  nvidia-cusparse==12.6.3.3 nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvjitlink==13.0.88 \
  nvidia-nvshmem-cu13==3.4.5 sympy==1.14.0 mpmath==1.3.0 networkx==3.6.1 filelock==3.29.0 numpy==2.4.6

# Quiet about Triton, which is not installed, and about operators for which nativert has no kernels of its own.
TORCH_CPP_LOG_LEVEL=ERROR "$python" -W ignore - "$folder" <<'END'
import logging
import sys

logging.disable(logging.WARNING)
import torch
from torch._C._nativert import PyModelRunner

print("torch", torch.__version__)


class Parameters(torch.nn.Module):
    def __init__(self):
        super().__init__()
        both = torch.arange(8.0)
        self.first = torch.nn.Parameter(both[:4])
        self.second = torch.nn.Parameter(both[4:])

    def forward(self, x):
        return torch.stack([x + self.first, x + self.second])


class Buffer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("column", torch.arange(8.0).reshape(4, 2)[:, 1])

    def forward(self, x):
        return x + self.column


class Constant(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.end = torch.arange(10.0)[6:]

    def forward(self, x):
        return x + self.end


described = {
    Parameters: [[0, 1, 2, 3], [0, 1, 2, 3]],
    Buffer: [0, 2, 4, 6],
    Constant: [0, 1, 2, 3],
}
zeros = torch.zeros(4)
changed = False
for module, wrong in described.items():
    path = f"{sys.argv[1]}/{module.__name__}.pt2"
    torch.export.save(torch.export.export(module(), (zeros,)), path)
    expected = module()(zeros)
    assert torch.equal(torch.export.load(path).module()(zeros), expected)
    seen = PyModelRunner(path, "model").run(zeros)
    print(f"{module.__name__}: expected {expected.tolist()}, seen {seen.tolist()}")
    changed |= seen.tolist() != wrong

if changed:
    sys.exit("no longer as described")
print("as described: nativert begins at the start of the memory")
END
