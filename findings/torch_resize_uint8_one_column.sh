#!/usr/bin/env bash
# In PyTorch, an antialiased resize of a uint8 image to a width of 1 gives other pixels than that of floats.
#
# Expected: interpolate(..., mode="bilinear", antialias=True) of uint8 is that of the same numbers as floats, rounded: off
# by a level at most, whatever the size. torchvision's Resize calls it for uint8 images on the CPU.
# Happens: if the result has one column and the image several channels, pixels are off by a hundred levels and more, without
# a word. If the image has one column too, the height alone is resized, and is just as wrong. With two columns all is well.
# Such sizes come up where images are reduced to profiles, rows of a spectrogram for example.
#
# Version: torch 2.11.0, on the CPU
# Source: aten/src/ATen/native/cpu/UpSampleKernelAVXAntialias.h of PyTorch
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
from torch.nn.functional import interpolate

print("torch", torch.__version__)
torch.set_num_threads(1)
torch.manual_seed(0)
changed = False
for width, result in ((6, 1), (1, 1), (6, 2), (6, 5)):
    worst = 0.0
    for _ in range(50):
        image = torch.randint(0, 256, (1, 3, 8, width), dtype=torch.uint8)
        as_bytes = interpolate(image, size=(9, result), mode="bilinear", antialias=True).float()
        as_floats = interpolate(image.float(), size=(9, result), mode="bilinear", antialias=True)
        worst = max(worst, float((as_bytes - as_floats).abs().max()))
    print(f"8 x {width} to 9 x {result}: uint8 is off by {worst:.1f} levels at most")
    changed |= (worst > 50) != (result == 1) or (result > 1 and worst > 1.5)
if changed:
    sys.exit("no longer as described")
print("as described: a result of one column is wrong, wider ones are right")
END
