#!/usr/bin/env bash
# torch.load refuses a file of torch.save as unsafe if a bytes value in it is empty; with content it loads.
#
# Expected: torch.load's default, weights_only=True, takes bytes, as it takes strings, numbers and bytearrays, of any length.
# A field that a program fills later, such as a tokenizer's blob, may be empty.
# Happens: torch.save pickles by protocol 2, which has no opcode for bytes. Python's pickle writes b"x" as a call of
# _codecs.encode, which torch.load allows, and b"" as a call of bytes without arguments, which it does not: the whole
# checkpoint is refused, with "Unsupported global: GLOBAL bytes". An empty bytearray loads.
#
# Version: torch 2.11.0
# Source: torch/_weights_only_unpickler.py of PyTorch, save_bytes in Lib/pickle.py of CPython; the documentation of torch.load
# and "Serialization semantics" name neither
# Date: 2026-11-30
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

"$python" - "$folder/checkpoint.pt" <<'END'
import sys

import torch

values = {"bytes with content": b"x", "empty bytes": b"", "empty bytearray": bytearray()}
said = {}
print("torch", torch.__version__)
for name, value in values.items():
    torch.save({"weight": torch.ones(2), "extra": value}, sys.argv[1])
    try:
        said[name] = repr(torch.load(sys.argv[1])["extra"])
    except Exception as error:
        said[name] = "refused: GLOBAL bytes" if "GLOBAL bytes was not an allowed global" in str(error) else str(error)
    print(f"{name}: {said[name]}")
as_described = {"bytes with content": "b'x'", "empty bytes": "refused: GLOBAL bytes", "empty bytearray": "bytearray(b'')"}
sys.exit("no longer as described" if said != as_described else 0)
END
echo "as described: an empty bytes value makes a checkpoint unreadable"
