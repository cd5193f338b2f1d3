#!/usr/bin/env bash
# nativert, PyTorch's C++ runtime for exported programs, drops buffer updates once a program has been decomposed.
#
# Expected: a model that counts its calls in a buffer, exported to a .pt2 file, counts 1, 2, 3 in any runtime.
# run_decompositions() should not change that: it replaces the in-place operator, but the new value becomes an extra
# output, and the signature says which buffer it belongs to (buffers_to_mutate).
# Happens: torch.export.load counts 1, 2, 3 from both files, the plain one and the decomposed one. nativert counts 1,
# 2, 3 from the first and 1, 1, 1 from the second, with no error and no warning. Running statistics, caches and
# counters silently stop moving.
#
# Version: torch 2.11.0, through the Python binding of nativert that comes with it
# Source: PyTorch's torch/nativert/executor/ExecutionFrame.cpp (getBufferMutations) and torch/nativert/OVERVIEW.md,
# which calls weights and buffers immutable even though the in-place program does change them; ExportGraphSignature in
# the torch.export API reference, where updated buffers are outputs
# Date: 2026-11-29
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


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x + self.calls


def counts(run):
    return [int(run(torch.zeros(1))) for _ in range(3)]


exported = torch.export.export(Counter(), (torch.zeros(1),))
decomposed = exported.run_decompositions()
assert "calls" in decomposed.graph_signature.buffers_to_mutate.values()

seen = {}
for name, program in {"exported": exported, "decomposed": decomposed}.items():
    path = f"{sys.argv[1]}/{name}.pt2"
    torch.export.save(program, path)
    seen[name, "torch.export.load"] = counts(torch.export.load(path).module())
    seen[name, "nativert"] = counts(PyModelRunner(path, "model").run)
for (name, how), numbers in seen.items():
    print(f"{name} program, run by {how}: expected [1, 2, 3], seen {numbers}")

described = dict.fromkeys(seen, [1, 2, 3]) | {("decomposed", "nativert"): [1, 1, 1]}
if seen != described:
    sys.exit("no longer as described")
print("as described: nativert drops the buffer updates of the decomposed program")
END
