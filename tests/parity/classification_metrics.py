"""Values of torchmetrics' metrics of classification that metrics.py has not, and scikit-learn's log-loss:
classification_metrics.py FILE

Where the value of torchmetrics is not the right one (docs/metrics.md), it is computed from its parts.
"""
import sklearn.metrics
import torch
import torchmetrics as tm
import torchmetrics.segmentation
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

from metric_cases import (CLASSES, DATA, IGNORE, SIZE, averages, bits, classes, fresh, heeding, keep, macro_counts, run,
                          save)

NAN = torch.tensor(torch.nan, dtype=torch.float64)


def specificity(average, shared, k):
    if average != "macro":
        return fresh(tm.Specificity(average=average, top_k=k, **shared))
    return macro_counts(tm.Specificity, {**shared, "threshold": 0.5}, k, False)


def jaccard(average, shared):
    """A share of nothing is 0; labels without a sample that counts have no part in a macro average."""
    def make(top_k=1, **options):
        return tm.JaccardIndex(**options)

    if average == "macro":
        return macro_counts(make, {**shared, "threshold": 0.5}, 1, False)
    metric = fresh(make(average=average, **shared))
    return lambda preds, target: metric(preds, target).nan_to_num(0)


def matthews(shared):
    """1 or -1 where all is right or wrong, else 0, where the coefficient is 0 / 0."""
    counts, coefficient = fresh(tm.ConfusionMatrix(**shared)), fresh(tm.MatthewsCorrCoef(**shared))

    def value(preds, target):
        matrix = counts(preds, target).double()
        matrix = matrix.sum(0) if matrix.dim() == 3 else matrix
        right, total = matrix.trace(), matrix.sum()
        spread = lambda sums: total ** 2 - (sums ** 2).sum()
        if spread(matrix.sum(0)) * spread(matrix.sum(1)) != 0:
            return coefficient(preds, target)
        if total > 0 and right == total:
            return torch.tensor(1.0)
        return torch.tensor(-1.0 if total > 0 and right == 0 and len(matrix) == 2 else 0.0)
    return value


def unless_empty(ignore_index, value_of):
    """NaN for no sample that counts."""
    def value(preds, target):
        return NAN if ignore_index is not None and (target == ignore_index).all() else value_of(preds, target)
    return value


def probabilities(preds, task):
    if ((0 <= preds) & (preds <= 1)).all():
        return preds
    return preds.softmax(1) if task == "multiclass" else preds.sigmoid()


def log_loss(task, ignore_index):
    def value(preds, target):
        scores = probabilities(preds, task)
        if task == "multiclass":
            scores = scores.movedim(1, -1).reshape(-1, CLASSES)
            scores = scores / scores.sum(1, keepdim=True)
        else:
            scores = scores.flatten()
        target = target.flatten()
        counted = target != (-100 if ignore_index is None else ignore_index)
        labels = list(range(CLASSES if task == "multiclass" else 2))
        loss = sklearn.metrics.log_loss(target[counted].numpy(), scores[counted].numpy(), labels=labels)
        return torch.tensor(float(loss), dtype=torch.float64)
    return value


def points(curve, task, thresholds, ignore_index):
    """[3, points], or one of each class or label, padded with NaN: each from a yes or no of its own."""
    def single(scores, is_yes):
        rows = [row.double() for row in curve(scores, is_yes.long(), thresholds=thresholds)]
        longest = max(len(row) for row in rows)
        return torch.stack([torch.cat([row, NAN.expand(longest - len(row))]) for row in rows])

    def value(preds, target):
        scores = probabilities(preds.double(), task)
        counted = target != (-100 if ignore_index is None else ignore_index)
        if task == "binary":
            return single(scores[counted], target[counted] == 1)
        curves = []
        for label in range(scores.shape[1]):
            own = scores.select(1, label)
            yes, valid = (target == label, counted) if task == "multiclass" else (
                target.select(1, label) == 1, counted.select(1, label))
            curves.append(single(own[valid], yes[valid]))
        longest = max(c.shape[1] for c in curves)
        return torch.stack([torch.cat([c, NAN.expand(3, longest - c.shape[1])], 1) for c in curves])
    return value


def scores_only(task, data, batches, shared):
    ignore_index = shared["ignore_index"]
    single = {k: v for k, v in shared.items() if k != "num_labels"}
    if task != "multilabel":
        for norm in ["l1", "l2", "max"]:
            metric = fresh(tm.CalibrationError(n_bins=10, norm=norm, **single))
            run(f"CalibrationError/{data}/{norm}", heeding(ignore_index, unless_empty(ignore_index, metric)), batches)
        modes = ["crammer-singer"] + ["one-vs-all"] * (task == "multiclass")
        for mode in modes:
            for squared in [False, True]:
                options = {"multiclass_mode": mode} if task == "multiclass" else {}
                metric = fresh(tm.HingeLoss(squared=squared, **options, **single))
                run(f"HingeLoss/{data}/{mode},{int(squared)}", heeding(ignore_index, metric), batches)
    run(f"LogLoss/{data}/", heeding(ignore_index, log_loss(task, ignore_index)), batches)
    if data == "confident":  # probabilities are rounded to 1
        return
    for name, curve in {"PrecisionRecallCurve": binary_precision_recall_curve, "ROC": binary_roc}.items():
        for key, thresholds in {"exact": None, "count": 7}.items():
            run(f"{name}/{data}/{key}", heeding(ignore_index, points(curve, task, thresholds, ignore_index)), batches)


for task, sets in DATA.items():
    for data, batches in sets.items():
        shared = {"task": task, "ignore_index": IGNORE.get(data), **SIZE[task]}
        has_scores = batches[0][0].is_floating_point()
        for average in averages(task):
            for k in [1, 3] if task == "multiclass" and has_scores else [1]:
                run(f"Specificity/{data}/{average},{k}",
                    heeding(shared["ignore_index"], specificity(average, shared, k)), batches)
            run(f"JaccardIndex/{data}/{average}", heeding(shared["ignore_index"], jaccard(average, shared)), batches)
        run(f"MatthewsCorrCoef/{data}/", heeding(shared["ignore_index"], matthews(shared)), batches)
        if task != "multilabel":
            for weights in ["none", "linear", "quadratic"]:
                metric = fresh(tm.CohenKappa(weights=weights, **shared))
                run(f"CohenKappa/{data}/{weights}", heeding(shared["ignore_index"], metric), batches)
        if has_scores:
            scores_only(task, data, batches, shared)

SEGMENTED = {
    "index": keep("segments", lambda n: (classes(n, 3, 3), classes(n, 3, 3, missing=True))),
    "mixed": keep("segment_scores", lambda n: (torch.randn(n, CLASSES, 3, 3), classes(n, 3, 3))),
    "one-hot": keep("segment_bits", lambda n: (bits(n, CLASSES, 2, 2), bits(n, CLASSES, 2, 2) * bits(n, CLASSES, 1, 1))),
}
for input_format, batches in SEGMENTED.items():
    for average in ["micro", "macro", "weighted", "none"]:
        for level in ["samplewise", "global"]:
            for background in [True, False]:
                metric = tm.segmentation.DiceScore(CLASSES, background, average, level, input_format)
                run(f"DiceScore/{input_format}/{average},{level},{int(background)}", fresh(metric), batches)
save()
