#!/usr/bin/env bash
# In torchmetrics, the AUROC and accuracy of the same scores depend on the batch size.
#
# Expected: a metric that is updated batch by batch gives one result, however the data is cut. The AUROC of the four
# logits below is 0.75: it depends on nothing but their order.
# Happens: batches of 4, 2 and 1 give an AUROC of 0.75, 1.0 and 0.5. Every update guesses anew whether it was given
# logits or probabilities: a batch with any score outside 0 to 1 goes through a sigmoid, other batches are left alone.
# So one epoch's logits end up on two scales, and small batches make that likely. The documentation mentions the
# guess, but not that it is made per batch. Passing probabilities avoids it.
#
# Version: torchmetrics 1.9.0 with torch 2.11.0
# Source: torchmetrics' src/torchmetrics/utilities/compute.py (normalize_logits_if_needed); BinaryAUROC and
# BinaryAccuracy in its documentation
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
  nvidia-nvshmem-cu13==3.4.5 torchmetrics==1.9.0 lightning-utilities==0.15.3 packaging==26.4 numpy==2.4.6

"$python" - <<'END'
import sys

import torch
import torchmetrics
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

print("torchmetrics", torchmetrics.__version__, "torch", torch.__version__)
logits = torch.tensor([0.9, 2.0, 0.2, 0.8])
labels = torch.tensor([0, 1, 0, 1])


def result(kind, scores, batch_size):
    metric = kind()
    for batch, batch_labels in zip(scores.split(batch_size), labels.split(batch_size)):
        metric.update(batch, batch_labels)
    return metric.compute().item()


described = {BinaryAUROC: [0.75, 1.0, 0.5], BinaryAccuracy: [0.5, 0.75, 0.75]}
sizes = (4, 2, 1)
changed = False
for kind, wrong in described.items():
    seen = [result(kind, logits, size) for size in sizes]
    safe = [result(kind, logits.sigmoid(), size) for size in sizes]
    expected = [wrong[0]] * 3
    print(f"{kind.__name__}, batches of {sizes}: expected {expected}, seen {seen}, of probabilities {safe}")
    changed |= seen != wrong or safe != expected
if changed:
    sys.exit("no longer as described")
print("as described: AUROC and accuracy of the same logits depend on the batch size")
END
