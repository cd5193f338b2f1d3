"""What the scripts about metrics share: the data, the values of torchmetrics over its batches, and the file with both.

Inputs are "<data>.preds.<batch>" and "<data>.target.<batch>"; for each case, which is named "<metric>/<data>/<options>",
"<case>/batches" has the value of each batch alone and "<case>/epoch" that of all.
"""
import sys
import warnings

import torch
import torchmetrics
from safetensors.torch import save_file

torch.set_num_threads(1)
warnings.simplefilter("ignore")
torch.manual_seed(3)
SIZES = [7, 1, 12, 5, 16]
CLASSES, LABELS = 5, 4
out = {}


def keep(data, make):
    """Batches of `data`, kept in the file too."""
    batches = [make(n) for n in SIZES]
    for i, (preds, target) in enumerate(batches):
        out[f"{data}.preds.{i}"], out[f"{data}.target.{i}"] = preds.contiguous(), target.contiguous()
    return batches


def tied(*shape):
    """Probabilities with few values."""
    return torch.randint(0, 11, shape).float() / 10


def some(target, value, share=0.3):
    return torch.where(torch.rand(target.shape) < share, torch.tensor(value), target)


def bits(*shape):
    return torch.randint(0, 2, shape)


def classes(*shape, missing=False):
    return torch.randint(0, CLASSES - 1 if missing else CLASSES, shape)


def ignored_logits(n):
    # What is ignored is outside of 0..1, all else inside.
    target = some(bits(n), -1)
    return torch.where(target == -1, torch.tensor(7.0), torch.rand(n)), target


def often_inside(*shape):
    """Scores of which whole batches look like probabilities, and none are."""
    return torch.rand(shape) if shape[0] < 10 else torch.randn(shape)


def confident(n):
    """Logits whose sigmoids float32 rounds to 1 or 0, with the odd wrong one."""
    target = bits(n)
    return torch.where(torch.rand(n) < 0.8, 2 * target - 1, 1 - 2 * target) * (15 + 20 * torch.rand(n)), target


DATA = {
    "binary": {
        "ties": keep("ties", lambda n: (tied(n), bits(n))),
        "logits": keep("logits", lambda n: (3 * torch.randn(n, 2), bits(n, 2))),
        "no_positive": keep("no_positive", lambda n: (tied(n), 0 * bits(n))),
        "no_negative": keep("no_negative", lambda n: (tied(n), 0 * bits(n) + 1)),
        "ignored": keep("ignored", lambda n: (torch.randn(n), some(bits(n), -1))),
        "ignored_logits": keep("ignored_logits", ignored_logits),
        "bit_labels": keep("bit_labels", lambda n: (bits(n), bits(n))),
    },
    "multiclass": {
        "classes": keep("classes", lambda n: (2 * torch.randn(n, CLASSES), classes(n))),
        "class_ties": keep("class_ties", lambda n: (tied(n, CLASSES), classes(n))),
        "class_missing": keep("class_missing", lambda n: (torch.rand(n, CLASSES), classes(n, missing=True))),
        "class_zero": keep("class_zero", lambda n: (torch.rand(n, CLASSES), 0 * classes(n))),
        "class_images": keep("class_images", lambda n: (torch.randn(n, CLASSES, 3, 2), classes(n, 3, 2))),
        "class_ignored": keep("class_ignored", lambda n: (torch.randn(n, CLASSES), some(classes(n), -1))),
        "class_ignored_within": keep("class_ignored_within", lambda n: (torch.randn(n, CLASSES), classes(n))),
        "class_labels": keep("class_labels", lambda n: (classes(n, 3), classes(n, 3))),
    },
    "multilabel": {
        "labels": keep("labels", lambda n: (torch.randn(n, LABELS), bits(n, LABELS))),
        "label_ties": keep("label_ties", lambda n: (tied(n, LABELS, 2), bits(n, LABELS, 2))),
        "label_ignored": keep("label_ignored", lambda n: (torch.rand(n, LABELS), some(bits(n, LABELS), -1, 0.1))),
        "label_bits": keep("label_bits", lambda n: (bits(n, LABELS), bits(n, LABELS))),
    },
}
# Where torchmetrics' values are right for all data at once, or for what has a value.
DATA["binary"]["mixed"] = keep("mixed", lambda n: (often_inside(n), bits(n)))
DATA["binary"]["confident"] = keep("confident", confident)
DATA["multiclass"]["class_mixed"] = keep("class_mixed", lambda n: (often_inside(n, CLASSES), classes(n)))
DATA["multilabel"]["label_mixed"] = keep("label_mixed", lambda n: (often_inside(n, LABELS), bits(n, LABELS)))
DATA["multilabel"]["label_empty"] = keep(
    "label_empty", lambda n: (torch.rand(n, LABELS), bits(n, LABELS) * (torch.arange(4) != 1)))
IGNORE = {"ignored": -1, "ignored_logits": -1, "class_ignored": -1, "class_ignored_within": 2, "label_ignored": -1}
SIZE = {"binary": {}, "multiclass": {"num_classes": CLASSES}, "multilabel": {"num_labels": LABELS}}


def joined(batches):
    return tuple(torch.cat(parts) for parts in zip(*batches))


def run(case, value_of, batches):
    """`value_of` gives the value of a batch, and of all data at once."""
    values = []
    for batch in batches:
        try:
            values.append(value_of(*batch))
        except (ValueError, IndexError, RuntimeError):  # too few samples in this batch: it has no value, but counts
            values.append(None)
    like = next(v for v in values if v is not None)
    if all(v is None or v.shape == like.shape for v in values):
        rows = [torch.full_like(like, torch.nan) if v is None else v for v in values]
        out[f"{case}/batches"] = torch.stack(rows)
    out[f"{case}/epoch"] = value_of(*joined(batches))


def heeding(ignore_index, value_of):
    """Ignored scores have no say in whether scores are logits."""
    def value(preds, target):
        if ignore_index is not None and preds.is_floating_point():
            ignored = target == ignore_index
            preds = torch.where(ignored.unsqueeze(1) if preds.dim() > target.dim() else ignored, 0.5, preds)
        return value_of(preds, target)
    return value


def fresh(metric):
    def value(*batch):
        metric.reset()
        return metric(*batch)
    return value


def macro(values, has_part):
    return values[has_part].double().mean() if has_part.any() else torch.tensor(0.0, dtype=torch.float64)


def macro_counts(make, options, top_k, leaves_out_unseen):
    """Over classes that are somewhere and not ignored, over labels that have a sample that counts."""
    task, ignore_index = options["task"], options["ignore_index"]
    each = fresh(make(average="none", top_k=top_k, **options))
    counts = {k: v for k, v in options.items() if k not in ("threshold", "zero_division")}
    scores = fresh(torchmetrics.StatScores(average="none", top_k=top_k, threshold=options["threshold"], **counts))

    def value(preds, target):
        tp, fp, tn, fn, _ = scores(preds, target).unbind(-1)
        basis = tp + fn + (0 if leaves_out_unseen else fp) + (tn if task == "multilabel" else 0)
        has_part = basis > 0
        if task == "multiclass" and ignore_index is not None and 0 <= ignore_index < CLASSES:
            has_part[ignore_index] = False
        return macro(each(preds, target), has_part)
    return value


def averages(task, has_micro=True):
    return ["micro"] if task == "binary" else ["micro"] * has_micro + ["macro", "weighted", "none"]


def double(metric):
    return fresh(metric.set_dtype(torch.float64))


def save():
    save_file({key: value.contiguous() for key, value in out.items()}, sys.argv[1])
