"""Values of torchmetrics' metrics over batches of uneven sizes: metrics.py FILE

What docs/metrics.md lists as a difference is computed here by torchmetrics in the way that gives the right value: all
data at once, ignored scores as a half, averages over the classes that have a value.
"""
import torch
import torchmetrics

from metric_cases import (CLASSES, DATA, IGNORE, LABELS, SIZE, averages, double, fresh, heeding, keep, macro, macro_counts, run,
                          save, some)


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
save()
