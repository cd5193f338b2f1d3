#!/usr/bin/env bash
# In PyTorch, fused SGD on the CPU does not step weights of 16 bits.
#
# Expected: torch.optim.SGD(fused=True) makes the step that fused=False makes, up to rounding.
# Happens: of parameters in bfloat16 or float16 whole blocks of 16 elements stay as they are, without a word; only the
# rest that fills no block is stepped. A layer whose sizes are multiples of 16 never learns. float32 is right, and so
# are fused Adam and Adagrad.
#
# Version: torch 2.11.0 (reported upstream in July 2026, issue 191763)
# Source: aten/src/ATen/native/cpu/FusedSGDKernel.cpp of PyTorch; torch.optim.SGD in its documentation
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
# --no-deps, and only what `import torch` and its optimizers need: PyTorch does not load without the CUDA libraries that it is linked to.
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
  torch==2.11.0 typing_extensions==4.16.0 nvidia-cublas==13.1.0.3 nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96 \
  nvidia-cudnn-cu13==9.19.0.56 nvidia-cufft==12.0.0.61 nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35 \
  nvidia-cusparse==12.6.3.3 nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvjitlink==13.0.88 \
  nvidia-nvshmem-cu13==3.4.5 sympy==1.14.0 mpmath==1.3.0 networkx==3.6.1 filelock==3.29.0 numpy==2.4.6

"$python" - <<'END'
import sys

import torch

print("torch", torch.__version__)


def stepped(dtype, size, fused):
    weight = torch.ones(size, dtype=dtype).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.5, fused=fused)
    weight.grad = torch.ones(size, dtype=dtype)
    optimizer.step()
    return int((weight != 1).sum())


changed = False
sizes = (15, 16, 33, 64)
for dtype in (torch.bfloat16, torch.float16, torch.float32):
    plain = [stepped(dtype, size, False) for size in sizes]
    fused = [stepped(dtype, size, True) for size in sizes]
    described = list(sizes) if dtype == torch.float32 else [size % 16 for size in sizes]
    print(f"{dtype}: of {sizes} elements {plain} are stepped, with fused=True {fused}")
    changed |= plain != list(sizes) or fused != described
if changed:
    sys.exit("no longer as described")
print("as described: fused SGD leaves blocks of 16 elements of 16 bits as they are")
END
