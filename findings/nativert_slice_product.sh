#!/usr/bin/env bash
# nativert, PyTorch's C++ runtime for exported programs, leaves elements of a slice times a number uncomputed.
#
# Expected: x[:, :2] * 0.5, exported to a .pt2 file, gives the same numbers in any runtime, as x[:, :2] + 0.5 does.
# Happens: torch.export.load is right. nativert multiplies as many elements of the memory as the slice has, counted from the
# slice's first one, gaps included. The result has the slice's strides, and whatever was in memory where it was not written:
# of 4 rows with 2 of 4 columns, the last 2 are never computed, without an error. So it is for one column, for the parts of
# chunk and split, for example queries cut out of a joint product and scaled. .contiguous() before the product helps, and so
# does a tensor for the number.
#
# Version: torch 2.11.0 on the CPU, through the Python binding of nativert that comes with it
# Source: torch/nativert/kernels/KernelRegistry.cpp of PyTorch (mul_out, the kernel of aten.mul.Scalar, looks at no stride
# of its input) and torch/nativert/graph/GraphPasses.cpp (selectScalarOverload, which turns the exported aten.mul.Tensor
# into it)
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
torch.manual_seed(0)
file = f"{sys.argv[1]}/program.pt2"


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# Which of the 4 rows of the result are wrong in nativert.
described = {
    "x[:, :2] * 0.5": (lambda x: x[:, :2] * 0.5, [2, 3]),
    "x[:, 1] * 2": (lambda x: x[:, 1] * 2, [1, 2, 3]),
    "x.chunk(2, 1)[0] * 0.5": (lambda x: x.chunk(2, 1)[0] * 0.5, [2, 3]),
    "x.split(2, 1)[1] * 0.5": (lambda x: x.split(2, 1)[1] * 0.5, [2, 3]),
    "x[:, :2] + 0.5": (lambda x: x[:, :2] + 0.5, []),
    "x[:, :2].contiguous() * 0.5": (lambda x: x[:, :2].contiguous() * 0.5, []),
    "x[:, :2] * torch.tensor(0.5)": (lambda x: x[:, :2] * torch.tensor(0.5), []),
}
changed = False
for name, (function, rows) in described.items():
    torch.export.save(torch.export.export(Module(function), (torch.zeros(4, 4),)), file)
    loaded, nativert = torch.export.load(file).module(), PyModelRunner(file, "model")
    for _ in range(3):
        x = torch.rand(4, 4)
        # nativert first, so that no right numbers lie about in the memory it is given.
        seen = nativert.run(x)
        expected = function(x)
        assert torch.equal(loaded(x), expected)
        wrong = (seen != expected).reshape(4, -1).any(1).nonzero().flatten().tolist()
        print(f"{name}: wrong rows of 4, expected none, seen {wrong}")
        changed |= wrong != rows
print("x[:, :2] * 0.5 of the numbers from 0 to 15, expected and seen:")
function, _ = described["x[:, :2] * 0.5"]
torch.export.save(torch.export.export(Module(function), (torch.zeros(4, 4),)), file)
x = torch.arange(16.0).reshape(4, 4)
seen = PyModelRunner(file, "model").run(x)
print(function(x).tolist(), seen.tolist(), sep="\n")

if changed:
    sys.exit("no longer as described")
print("as described: nativert computes a part of such products only")
END
