"""Values of torchmetrics' metrics of regression, and of scipy's Wasserstein distance: regression_metrics.py FILE"""
import scipy.stats
import torch
import torchmetrics as tm

from metric_cases import double, keep, run, save, tied

OUTPUTS = 3


def row(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def along(n, *more):
    """Two rows that go together."""
    x = row(n, *more)
    return x, 0.6 * x + 0.4 * row(n, *more)


FLAT = {
    "values": keep("values", along),
    "far": keep("far", lambda n: tuple(1e6 + v for v in along(n))),
    "positive": keep("positive", lambda n: (row(n).exp(), row(n).exp())),
    "zeros": keep("zeros", lambda n: (row(n), row(n) * (torch.rand(n) < 0.5))),
    "ties": keep("ties", lambda n: (tied(n).double(), tied(n).double())),
    "constant": keep("constant", lambda n: (row(n), torch.full((n,), 0.1).double())),
    "perfect": keep("perfect", lambda n: (torch.full((n,), 0.1).double(), torch.full((n,), 0.1).double())),
    "shifted": keep("shifted", lambda n: (torch.arange(n).double() + 2, torch.arange(n).double())),
}
COLUMNS = {
    "outputs": keep("outputs", lambda n: along(n, OUTPUTS)),
    "tied_outputs": keep("tied_outputs", lambda n: (tied(n, OUTPUTS).double(), tied(n, OUTPUTS).double())),
}
SHARES = keep("shares", lambda n: (torch.rand(n, 4).double() * (torch.rand(n, 4) < 0.8) + 1e-3 * (torch.arange(4) == 0),
                                   torch.rand(n, 4).double() + 0.01))


def spearman(num_outputs=1):
    """Without the 1e-6 that torchmetrics adds to the denominator; 0 where that is 0."""
    theirs = double(tm.SpearmanCorrCoef(num_outputs))

    def value(preds, target):
        columns = zip(preds.reshape(len(preds), -1).T, target.reshape(len(target), -1).T)
        exact = []
        for x, y in columns:
            varies = x.unique().numel() > 1 and y.unique().numel() > 1
            exact.append(scipy.stats.spearmanr(x, y).statistic if varies else 0.0)
        exact = torch.tensor(exact, dtype=torch.float64)
        given = theirs(preds, target).double()
        assert torch.allclose(exact.reshape(given.shape), given, atol=2e-5), (exact, given)
        return exact.squeeze() if num_outputs == 1 else exact
    return value


def explained(multioutput, off):
    """Of values less `off`, since torchmetrics' sums cancel; the mean where the weights of outputs that do not vary are
    0 / 0."""
    weighted, mean = double(tm.ExplainedVariance(multioutput)), double(tm.ExplainedVariance("uniform_average"))

    def value(preds, target):
        preds, target = preds - off, target - off
        given = weighted(preds, target)
        return mean(preds, target) if multioutput == "variance_weighted" and given.isnan().all() else given
    return value


for data, batches in {**FLAT, **COLUMNS}.items():
    for name in ["MeanAbsolutePercentageError", "SymmetricMeanAbsolutePercentageError",
                 "WeightedMeanAbsolutePercentageError"]:
        run(f"{name}/{data}/", double(getattr(tm, name)()), batches)
    for kind in ["uniform_average", "variance_weighted", "raw_values"]:
        run(f"ExplainedVariance/{data}/{kind}", explained(kind, 1e6 if data == "far" else 0), batches)
    outputs = OUTPUTS if data in COLUMNS else 1
    run(f"PearsonCorrCoef/{data}/", double(tm.PearsonCorrCoef(outputs)), batches)
    run(f"SpearmanCorrCoef/{data}/", spearman(outputs), batches)
    for variant in "abc":
        run(f"KendallRankCorrCoef/{data}/{variant}", double(tm.KendallRankCorrCoef(variant, num_outputs=outputs)), batches)
run("MeanSquaredLogError/positive/", double(tm.MeanSquaredLogError()), FLAT["positive"])
for data in ["values", "ties"]:
    run(f"WassersteinDistance/{data}/",
        lambda x, y: torch.tensor(scipy.stats.wasserstein_distance(x, y), dtype=torch.float64), FLAT[data])
for reduction in ["mean", "sum", "none"]:
    run(f"KLDivergence/shares/{reduction}", double(tm.KLDivergence(False, reduction)), SHARES)
    run(f"KLDivergence/outputs/{reduction}", double(tm.KLDivergence(True, reduction)), COLUMNS["outputs"])
save()
