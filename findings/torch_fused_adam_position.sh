#!/usr/bin/env bash
# In PyTorch, a step of fused Adam depends on where in its tensor an element lies.
#
# Expected: Adam treats each element alone, so parameters in one flat buffer are stepped as they are in tensors of their
# own, to the bit: that is why flat buffers are taken for a free gain.
# Happens: the elements that fill no whole vector at the end of a tensor are stepped by other code, which rounds
# otherwise (multiplications and additions are contracted there): after 20 steps about one weight in a hundred has other
# bits if it lies at an end. foreach and plain Adam give the same bits wherever an element lies.
#
# Version: torch 2.11.0, x86-64 with AVX2 or AVX-512
# Source: aten/src/ATen/native/cpu/FusedAdamKernel.cpp of PyTorch; torch.optim.Adam in its documentation
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
torch.set_num_threads(1)
torch.manual_seed(1)
size = 1024
start, gradients = torch.randn(size), torch.randn(20, size)


def stepped(chunk, **how):
    """The weights after 20 steps, in tensors of `chunk` elements."""
    weights = [piece.clone().requires_grad_() for piece in start.split(chunk)]
    optimizer = torch.optim.Adam(weights, lr=1e-3, **how)
    for gradient in gradients:
        for weight, piece in zip(weights, gradient.split(chunk)):
            weight.grad = piece.clone()
        optimizer.step()
    return torch.cat([weight.detach() for weight in weights])


changed = False
for name, how in (("fused", {"fused": True}), ("foreach", {"foreach": True}), ("plain", {"foreach": False})):
    whole, alone = stepped(size, **how), stepped(1, **how)
    differing = int((whole != alone).sum())
    print(f"{name}: {differing} of {size} weights have other bits in one tensor than in tensors of one element")
    changed |= (differing > 0) != (name == "fused")
if changed:
    sys.exit("no longer as described")
print("as described: fused Adam rounds the end of a tensor otherwise than the rest")
END
