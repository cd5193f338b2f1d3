"""Values of torchmetrics' metrics over batches of uneven sizes: metrics.py FILE

Inputs "<data>.preds.<batch>" and "<data>.target.<batch>"; for each case, which is named "<metric>/<data>/<options>",
"<case>/batches" with the value of each batch alone and "<case>/epoch" with that of all.

What docs/metrics.md lists as a difference is computed here by torchmetrics in the way that gives the right value: all
data at once, ignored scores as a half, averages over the classes that have a value.
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
        except (ValueError, IndexError):  # too few samples in this batch: it has no value, but counts
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


def averaged_curve(make, average, options, needs_no):
    """Over classes or labels that have a value, in float64 so that no probability is rounded to 1."""
    task, ignore_index = options["task"], options["ignore_index"]
    single = task == "binary" or average in ("micro", "none")
    each = fresh(make(average=average if single else "none", **options))

    def value(preds, target):
        values = each(preds.double(), target)
        if single:
            return values
        one = torch.nn.functional.one_hot
        counted = target != ignore_index if ignore_index is not None else torch.ones_like(target, dtype=torch.bool)
        if task == "multiclass":
            hot = one(target[counted], CLASSES)
            yes, no = hot.sum(0), (1 - hot).sum(0)
        else:
            rows = lambda which: (which & counted).movedim(1, -1).reshape(-1, LABELS).sum(0)
            yes, no = rows(target == 1), rows(target == 0)
        has_part = (yes > 0) & (no > 0) if needs_no else yes > 0
        if average == "macro":
            return macro(values, has_part)
        weights = torch.where(has_part, yes, 0).double()
        return (weights * torch.where(has_part, values, 0)).sum() / weights.sum().clamp(min=1)
    return value


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
                        counts(f"{name}/{data}/{average},{k}", name, make, average, k, shared, batches)
            for normalize in ["true", "pred", "all", "none"]:
                metric = fresh(torchmetrics.ConfusionMatrix(normalize=normalize, **shared))
                run(f"ConfusionMatrix/{data}/{normalize}", heeding(shared["ignore_index"], metric), batches)
            if has_scores:
                curves(task, data, batches, shared)


def counts(case, name, make, average, k, shared, batches):
    def add(case, **options):
        options = {**shared, **options}
        if average == "macro":
            options.setdefault("threshold", 0.5)
            value_of = macro_counts(make, options, k, k > 1 and name not in ("F1Score", "FBetaScore"))
        else:
            value_of = fresh(make(average=average, top_k=k, **options))
        run(case, heeding(shared["ignore_index"], value_of), batches)

    add(case, threshold=0.4)
    if name not in ("Accuracy", "F1Score"):
        add(case + ",1", zero_division=1)


def curves(task, data, batches, shared):
    for name, make in {"AUROC": torchmetrics.AUROC, "AveragePrecision": torchmetrics.AveragePrecision}.items():
        for average in averages(task, has_micro=task == "multilabel"):
            for key, thresholds in {"exact": None, "count": 7, "list": [0.1, 0.3, 0.5, 0.7]}.items():
                value_of = averaged_curve(make, average, {**shared, "thresholds": thresholds}, name == "AUROC")
                run(f"{name}/{data}/{average},{key}", heeding(shared["ignore_index"], value_of), batches)


def double(metric):
    return fresh(metric.set_dtype(torch.float64))


def scaled_up(metric, is_needed):
    """R2 of values that torchmetrics takes for nothing: the same of both times 1e4."""
    value = double(metric)
    return lambda preds, target: value(1e4 * preds, 1e4 * target) if is_needed else value(preds, target)


def regression():
    one = keep("values", lambda n: (3 + torch.randn(n).double(), 3 + torch.randn(n).double()))
    two = keep("outputs", lambda n: (torch.randn(n, 3).double(), torch.randn(n, 3).double()))
    far = keep("far", lambda n: (1e4 + torch.randn(n).double(), 1e4 + torch.randn(n).double()))
    constant = keep("constant", lambda n: (torch.randn(n).double(), torch.ones(n).double()))
    perfect = keep("perfect", lambda n: (torch.ones(n).double(), torch.ones(n).double()))
    tm = torchmetrics
    small = keep("small", lambda n: (1e-4 * torch.randn(n).double(), 1e-4 * torch.randn(n).double()))
    sets = {"values": one, "outputs": two, "far": far, "constant": constant, "perfect": perfect, "small": small}
    for data, batches in sets.items():
        made = {"MeanSquaredError//": double(tm.MeanSquaredError()),
                "MeanSquaredError//root": double(tm.MeanSquaredError(squared=False)),
                "MeanAbsoluteError//": double(tm.MeanAbsoluteError())}
        if data == "outputs":
            made["MeanSquaredError//outputs"] = double(tm.MeanSquaredError(num_outputs=3))
            made["MeanAbsoluteError//outputs"] = double(tm.MeanAbsoluteError(num_outputs=3))
            made.update({f"CosineSimilarity//{r}": double(tm.CosineSimilarity(r)) for r in ("sum", "mean", "none")})
        for multioutput in ["uniform_average", "variance_weighted", "raw_values"]:
            for adjusted in [0, 3]:
                # The weights of outputs that do not vary are 0 / 0.
                is_flat = data in ("constant", "perfect") and multioutput == "variance_weighted"
                kind = "uniform_average" if is_flat else multioutput
                made[f"R2Score//{multioutput},{adjusted}"] = scaled_up(tm.R2Score(adjusted, kind), data == "small")
        for name, value_of in made.items():
            run(name.replace("//", f"/{data}/"), value_of, batches)


def text():
    tokens = keep("tokens", lambda n: (2 * torch.randn(n, 6, 9), torch.randint(0, 9, (n, 6))))
    padded = keep("padded", lambda n: (2 * torch.randn(n, 6, 9), some(torch.randint(0, 9, (n, 6)), -100)))
    run("Perplexity/tokens/", fresh(torchmetrics.text.Perplexity()), tokens)
    run("Perplexity/padded/", fresh(torchmetrics.text.Perplexity(ignore_index=-100)), padded)


def aggregation():
    nan = torch.tensor(torch.nan)
    holed = keep("holed", lambda n: (torch.where(torch.rand(n) < 0.2, nan, torch.randn(n)), torch.rand(n)))
    for name in ["SumMetric", "MinMetric", "MaxMetric", "MeanMetric"]:
        for key, strategy in {"ignore": "ignore", "replace": 0.25}.items():
            run(f"{name}/holed/{key}", fresh(getattr(torchmetrics, name)(strategy)), [(p.clone(),) for p, _ in holed])
    run("MeanMetric/holed/weighted", fresh(torchmetrics.MeanMetric("ignore")), holed)


classification()
regression()
text()
aggregation()
save_file({key: value.contiguous() for key, value in out.items()}, sys.argv[1])
