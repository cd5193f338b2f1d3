#!/usr/bin/env bash
# In PyTorch, batch norm with out= takes wrong statistics of an input with gaps.
#
# Expected: aten::native_batch_norm with out= gives what it gives without, whatever the strides of the input: operators
# with out= are taken for the same operator into memory that is there.
# Happens: for an input that is neither contiguous nor channels-last (a slice of channels) mean and deviation are wrong,
# and so is the result, without a word. torch.nn.BatchNorm2d never comes this way; who calls operators by their out=
# overloads to save allocations does.
#
# Version: torch 2.11.0, on the CPU
# Source: aten/src/ATen/native/Normalization.cpp of PyTorch
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
whole = torch.randn(3, 4, 8, 8)
norm = torch.ops.aten.native_batch_norm
changed = False
for name, x in (("contiguous", whole), ("channels-last", whole.to(memory_format=torch.channels_last)),
                ("a slice of channels", whole[:, :2])):
    channels = x.shape[1]
    plain = norm(x, None, None, torch.zeros(channels), torch.ones(channels), True, 0.1, 1e-5)
    out, mean, deviation = (torch.zeros_like(each) for each in plain)
    norm.out(x, None, None, torch.zeros(channels), torch.ones(channels), True, 0.1, 1e-5,
             out=out, save_mean=mean, save_invstd=deviation)
    right = x.mean((0, 2, 3))
    errors = [float((each - right).abs().max()) for each in (plain[1], mean)]
    print(f"{name}: the mean is off by {errors[0]:.1e}, with out= by {errors[1]:.1e}")
    changed |= errors[0] > 1e-6 or (errors[1] > 1e-3) != (name == "a slice of channels")
if changed:
    sys.exit("no longer as described")
print("as described: with out= the statistics of an input with gaps are wrong")
END
