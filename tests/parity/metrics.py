"""Values of torchmetrics' metrics over batches of uneven sizes: metrics.py FILE

Inputs "<data>.preds.<batch>" and "<data>.target.<batch>"; for each case, which is named "<metric>/<data>/<options>",
"<case>/batches" with the value of each batch alone and "<case>/epoch" with that of all.
"""
import sys
import warnings

import torch
import torchmetrics
from safetensors.torch import save_file

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
IGNORE = {"ignored": -1, "ignored_logits": -1, "class_ignored": -1, "class_ignored_within": 2, "label_ignored": -1}
SIZE = {"binary": {}, "multiclass": {"num_classes": CLASSES}, "multilabel": {"num_labels": LABELS}}


def run(case, metric, batches):
    values = []
    epoch = metric.clone()
    for batch in batches:
        epoch.update(*batch)
        metric.reset()
        try:
            values.append(metric(*batch))
        except (ValueError, IndexError):  # too few samples in this batch: it has no value, but counts
            values.append(None)
    like = next(v for v in values if v is not None)
    if all(v is None or v.shape == like.shape for v in values):
        rows = [torch.full_like(like, torch.nan) if v is None else v for v in values]
        out[f"{case}/batches"] = torch.stack(rows)
    out[f"{case}/epoch"] = epoch.compute()


def averages(task, has_micro=True):
    return ["micro"] if task == "binary" else ["micro"] * has_micro + ["macro", "weighted", "none"]


def classification():
    made = {
        "Accuracy": torchmetrics.Accuracy,
        "Precision": torchmetrics.Precision,
        "Recall": torchmetrics.Recall,
        "F1Score": torchmetrics.F1Score,
        "FBetaScore": lambda **options: torchmetrics.FBetaScore(beta=0.5, **options),
    }
    for task, sets in DATA.items():
        for data, batches in sets.items():
            shared = {"task": task, "ignore_index": IGNORE.get(data), **SIZE[task]}
            has_scores = batches[0][0].is_floating_point()
            for name, make in made.items():
                for average in averages(task):
                    for k in [1, 3] if task == "multiclass" and has_scores else [1]:
                        case = f"{name}/{data}/{average},{k}"
                        run(case, make(average=average, top_k=k, threshold=0.4, **shared), batches)
                        if name in ("Accuracy", "F1Score"):
                            continue
                        run(case + ",1", make(average=average, top_k=k, zero_division=1, **shared), batches)
            for normalize in ["true", "pred", "all", "none"]:
                run(f"ConfusionMatrix/{data}/{normalize}",
                    torchmetrics.ConfusionMatrix(normalize=normalize, **shared), batches)
            if has_scores:
                curves(task, data, batches, shared)


def curves(task, data, batches, shared):
    for name, make in {"AUROC": torchmetrics.AUROC, "AveragePrecision": torchmetrics.AveragePrecision}.items():
        for average in averages(task, has_micro=task == "multilabel"):
            for key, thresholds in {"exact": None, "count": 7, "list": [0.1, 0.3, 0.5, 0.7]}.items():
                run(f"{name}/{data}/{average},{key}", make(average=average, thresholds=thresholds, **shared), batches)


def regression():
    one = keep("values", lambda n: (3 + torch.randn(n).double(), 3 + torch.randn(n).double()))
    two = keep("outputs", lambda n: (torch.randn(n, 3).double(), torch.randn(n, 3).double()))
    far = keep("far", lambda n: (1e4 + torch.randn(n).double(), 1e4 + torch.randn(n).double()))
    constant = keep("constant", lambda n: (torch.randn(n).double(), torch.ones(n).double()))
    perfect = keep("perfect", lambda n: (torch.ones(n).double(), torch.ones(n).double()))
    tm = torchmetrics
    for data, batches in {"values": one, "outputs": two, "far": far, "constant": constant, "perfect": perfect}.items():
        made = {"MeanSquaredError//": tm.MeanSquaredError(), "MeanSquaredError//root": tm.MeanSquaredError(squared=False),
                "MeanAbsoluteError//": tm.MeanAbsoluteError()}
        if data == "outputs":
            made["MeanSquaredError//outputs"] = tm.MeanSquaredError(num_outputs=3)
            made["MeanAbsoluteError//outputs"] = tm.MeanAbsoluteError(num_outputs=3)
            made.update({f"CosineSimilarity//{r}": tm.CosineSimilarity(r) for r in ("sum", "mean", "none")})
        for multioutput in ["uniform_average", "variance_weighted", "raw_values"]:
            for adjusted in [0, 3]:
                made[f"R2Score//{multioutput},{adjusted}"] = tm.R2Score(adjusted, multioutput)
        for name, metric in made.items():
            run(name.replace("//", f"/{data}/"), metric.set_dtype(torch.float64), batches)


def text():
    tokens = keep("tokens", lambda n: (2 * torch.randn(n, 6, 9), torch.randint(0, 9, (n, 6))))
    padded = keep("padded", lambda n: (2 * torch.randn(n, 6, 9), some(torch.randint(0, 9, (n, 6)), -100)))
    run("Perplexity/tokens/", torchmetrics.text.Perplexity(), tokens)
    run("Perplexity/padded/", torchmetrics.text.Perplexity(ignore_index=-100), padded)


def aggregation():
    nan = torch.tensor(torch.nan)
    holed = keep("holed", lambda n: (torch.where(torch.rand(n) < 0.2, nan, torch.randn(n)), torch.rand(n)))
    for name in ["SumMetric", "MinMetric", "MaxMetric", "MeanMetric"]:
        for key, strategy in {"ignore": "ignore", "replace": 0.25}.items():
            run(f"{name}/holed/{key}", getattr(torchmetrics, name)(strategy), [(p.clone(),) for p, _ in holed])
    run("MeanMetric/holed/weighted", torchmetrics.MeanMetric("ignore"), holed)


classification()
regression()
text()
aggregation()
save_file({key: value.contiguous() for key, value in out.items()}, sys.argv[1])
