"""Learning rates and momenta of PyTorch's schedulers: schedulers.py FILE

"<case>" is a tensor [steps, groups, 2] of rate and momentum, the first row before any step.
"""
import sys
import warnings

import torch
from safetensors.torch import save_file
from torch.optim import lr_scheduler as lr

warnings.simplefilter("ignore")
STEPS = 60


def two_groups(make):
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    return make([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.02}])


def sgd():
    return two_groups(lambda groups: torch.optim.SGD(groups, momentum=0.7))


def adam():
    return two_groups(torch.optim.Adam)


CASES = {
    "lambda": (sgd, lambda o: lr.LambdaLR(o, [lambda e: 0.95**e, lambda e: 1 / (1 + e)])),
    "multiplicative": (sgd, lambda o: lr.MultiplicativeLR(o, lambda e: 0.9 if e % 3 else 1.1)),
    "step": (sgd, lambda o: lr.StepLR(o, 7, 0.3)),
    "multi_step": (sgd, lambda o: lr.MultiStepLR(o, [3, 20, 20, 41], 0.5)),
    "constant": (sgd, lambda o: lr.ConstantLR(o, 0.25, 9)),
    "linear": (sgd, lambda o: lr.LinearLR(o, 0.1, 0.8, 13)),
    "exponential": (sgd, lambda o: lr.ExponentialLR(o, 0.93)),
    "polynomial": (sgd, lambda o: lr.PolynomialLR(o, 40, 1.7)),
    "cosine": (sgd, lambda o: lr.CosineAnnealingLR(o, 17, 0.001)),
    "restarts": (sgd, lambda o: lr.CosineAnnealingWarmRestarts(o, 5, 2, 0.001)),
    "restarts_even": (sgd, lambda o: lr.CosineAnnealingWarmRestarts(o, 7)),
    "cyclic": (sgd, lambda o: lr.CyclicLR(o, 0.001, 0.1, 6, 9)),
    "cyclic2": (adam, lambda o: lr.CyclicLR(o, [0.001, 0.01], [0.1, 0.2], 5, mode="triangular2")),
    "cyclic_exp": (sgd, lambda o: lr.CyclicLR(o, 0.001, 0.1, 6, mode="exp_range", gamma=0.98, cycle_momentum=False)),
    "one_cycle": (sgd, lambda o: lr.OneCycleLR(o, 0.3, total_steps=60)),
    "one_cycle_adam": (adam, lambda o: lr.OneCycleLR(o, [0.3, 0.1], epochs=6, steps_per_epoch=10, pct_start=0.4,
                                                     anneal_strategy="linear", three_phase=True)),
    "plateau": (sgd, lambda o: lr.ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=3, min_lr=[0.01, 0.001])),
    "plateau_max": (sgd, lambda o: lr.ReduceLROnPlateau(o, "max", patience=1, threshold=0.05, threshold_mode="abs")),
    "chained": (sgd, lambda o: lr.ChainedScheduler([lr.ConstantLR(o, 0.1, 20), lr.ExponentialLR(o, 0.9)], o)),
    "sequential": (sgd, lambda o: lr.SequentialLR(
        o, [lr.ConstantLR(o, 0.1, 20), lr.ExponentialLR(o, 0.9), lr.CosineAnnealingLR(o, 11)], [20, 31])),
    "warmup": (sgd, lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.001, total_iters=10), lr.CosineAnnealingWarmRestarts(o, 8, 2)], [10])),
    # A scheduler in a sequence with others that change the momentum and the first rate too.
    "cycle_after_cycle": (sgd, lambda o: lr.SequentialLR(
        o, [lr.CyclicLR(o, 0.01, 0.2, 5, 4), lr.OneCycleLR(o, 0.3, total_steps=60)], [12])),
    "cyclic_after_linear": (adam, lambda o: lr.SequentialLR(
        o, [lr.LinearLR(o, 0.1, total_iters=6), lr.CyclicLR(o, 0.01, 0.2, 7, mode="exp_range", gamma=0.97)], [8])),
    "decay_after_one_cycle": (sgd, lambda o: lr.SequentialLR(
        o, [lr.OneCycleLR(o, 0.3, total_steps=25, three_phase=True), lr.ExponentialLR(o, 0.9)], [20])),
    "chained_one_cycle": (adam, lambda o: lr.ChainedScheduler(
        [lr.OneCycleLR(o, 0.3, total_steps=60), lr.ExponentialLR(o, 0.95)])),
    # Made for an optimizer that has had another one.
    "lambda_after_cyclic": (sgd, lambda o: [lr.CyclicLR(o, 0.01, 0.2, 6), lr.LambdaLR(o, lambda e: 0.9**e)][1]),
    "lambda_after_one_cycle": (sgd, lambda o: [lr.OneCycleLR(o, 0.3, 50), lr.LambdaLR(o, lambda e: 0.9**e)][1]),
    "cyclic_after_step": (sgd, lambda o: [lr.StepLR(o, 3), lr.CyclicLR(o, 0.01, 0.2, 6)][1]),
    "restarts_first": (sgd, lambda o: lr.SequentialLR(
        o, [lr.CosineAnnealingWarmRestarts(o, 5, 2), lr.MultiplicativeLR(o, lambda e: 0.9 if e % 2 else 1.05),
            lr.PolynomialLR(o, 12, 0.8)], [13, 30])),
    "linear_without_iterations": (sgd, lambda o: lr.LinearLR(o, 0.5, total_iters=0)),
}


def state(optimizer):
    return [[g["lr"], g["betas"][0] if "betas" in g else g["momentum"]] for g in optimizer.param_groups]


def metric(step):
    return [1.0, 0.5, 0.5, 0.49999, 0.6, 0.4, 0.41, 0.42, 0.43, 0.44][step % 10] / (1 + step // 25)


out = {}
for name, (make, schedule) in CASES.items():
    optimizer = make()
    scheduler = schedule(optimizer)
    rows = [state(optimizer)]
    for step in range(STEPS):
        optimizer.step()
        scheduler.step(metric(step)) if name.startswith("plateau") else scheduler.step()
        rows.append(state(optimizer))
    out[name] = torch.tensor(rows, dtype=torch.float64)
save_file(out, sys.argv[1])
