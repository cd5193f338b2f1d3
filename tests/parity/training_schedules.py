"""50 steps whose rates schedulers change, and logged means: training_schedules.py FILE

Samples "x", "y" [45, ...] to train on and "x.val", "y.val" [21, ...] to validate on, in batches of 8; the last ones are
of 5. For each case and type losses and weights, and "<case>.<type>.rates": the rates that each step was taken with.
"means.<type>.<metric>" are the metrics of ten epochs. "lr_find_<mode>.<type>.*": the rates of a learning rate finder
with the batch "x.find", "y.find" [45, ...], the losses, their smoothed values, and the place that is suggested.
"""
import torch
from torch.nn.functional import mse_loss
from torch.optim import lr_scheduler as lr

from common import STEPS, TYPES, Reference

SIZE = 8
reference = Reference(13)
x, y = reference.randn("x", 45, 6), reference.randn("y", 45, 3)
x_val, y_val = reference.randn("x.val", 21, 6), reference.randn("y.val", 21, 3)
x_find = reference.randn("x.find", 45, 6)
y_find = reference.tensors["y.find"] = x_find[:, :3] + x_find[:, 3:]

PLATEAU = {"factor": 0.5, "patience": 0, "threshold": 0.1}
# Interval, frequency, what is monitored, batches of a window, scheduler.
CASES = {
    "epoch": ("epoch", 1, None, 1, lambda o: lr.StepLR(o, 2, 0.5)),
    "every_third_epoch": ("epoch", 3, None, 1, lambda o: lr.ExponentialLR(o, 0.6)),
    "step": ("step", 1, None, 1, lambda o: lr.OneCycleLR(o, 0.2, total_steps=51)),
    "every_fourth_step": ("step", 4, None, 1, lambda o: lr.CosineAnnealingWarmRestarts(o, 5)),
    "step_of_window": ("step", 1, None, 4, lambda o: lr.CyclicLR(o, 0.01, 0.2, 6)),
    "plateau_of_training": ("epoch", 1, "train", 1, lambda o: lr.ReduceLROnPlateau(o, **PLATEAU)),
    "plateau_of_validation": ("epoch", 2, "val", 1, lambda o: lr.ReduceLROnPlateau(o, **PLATEAU)),
    "plateau_of_steps": ("step", 5, "step", 1, lambda o: lr.ReduceLROnPlateau(o, **PLATEAU)),
}


def batches(inputs, targets, dtype):
    inputs, targets = inputs.to(dtype), targets.to(dtype)
    return [(inputs[i:i + SIZE], targets[i:i + SIZE]) for i in range(0, len(inputs), SIZE)]


def mean(values):
    """Of (loss, samples), as PyTorch's users take the mean of an epoch."""
    return sum(v.item() * n for v, n in values) / sum(n for _, n in values)


def run(case, type_name):
    interval, frequency, monitor, window, make = CASES[case]
    dtype = TYPES[type_name]
    model = reference.model(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    scheduler = make(optimizer)
    losses, rates, epoch = [], [], 0
    data = batches(x, y, dtype)
    while len(rates) < STEPS:
        seen = []
        for i in range(0, len(data), window):
            if len(rates) == STEPS:
                break
            parts = data[i:i + window]
            samples = sum(len(part[0]) for part in parts)
            optimizer.zero_grad()
            for inputs, targets in parts:
                losses.append(mse_loss(model(inputs), targets))
                seen.append((losses[-1].detach(), len(inputs)))
                (losses[-1] * (len(inputs) / samples)).backward()
            rates.append(torch.tensor([g["lr"] for g in optimizer.param_groups], dtype=torch.float64))
            optimizer.step()
            if interval == "step" and len(rates) % frequency == 0:
                scheduler.step(losses[-1].item()) if monitor else scheduler.step()
        epoch += 1
        if len(seen) < len(data):
            break
        with torch.no_grad():
            validation = mean([(mse_loss(model(a), b), len(a)) for a, b in batches(x_val, y_val, dtype)])
        if interval == "epoch" and epoch % frequency == 0:
            metric = {"train": mean(seen), "val": validation}.get(monitor)
            scheduler.step(metric) if monitor else scheduler.step()
    key = f"{case}.{type_name}"
    reference.add_run(key, losses, model)
    reference.add(key, "rates", rates)
    assert len(set(r.item() for r in rates)) >= 3, f"{case}: the rate hardly changes"


def log_means(type_name):
    """Of the whole set at once where the metric is a mean over samples."""
    dtype = TYPES[type_name]
    model = reference.model(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    metrics = {name: [] for name in ("train_loss", "val_loss", "val_sum", "val_min", "val_max", "val_of_two")}
    for _ in range(10):
        seen = []
        for inputs, targets in batches(x, y, dtype):
            optimizer.zero_grad()
            loss = mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            seen.append((loss.detach(), len(inputs)))
        with torch.no_grad():
            parts = [mse_loss(model(a), b).double() for a, b in batches(x_val, y_val, dtype)]
            metrics["val_loss"].append(mse_loss(model(x_val.to(dtype)), y_val.to(dtype)).item())
        metrics["train_loss"].append(mean(seen))
        metrics["val_sum"].append(sum(parts).item())
        metrics["val_min"].append(min(parts).item())
        metrics["val_max"].append(max(parts).item())
        metrics["val_of_two"].append((sum(parts) / len(parts)).item())
    for name, values in metrics.items():
        reference.add(f"means.{type_name}", name, values)


def find_rate(mode, type_name, largest, steps=60, smallest=1e-5, threshold=4.0, beta=0.98):
    """As Lightning's Tuner.lr_find has it, without Lightning."""
    dtype = TYPES[type_name]
    model = reference.model(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    inputs, targets = x_find.to(dtype), y_find.to(dtype)
    rates, losses, smoothed = [], [], []
    mean, best = 0.0, 0.0
    for step in range(steps):
        part = (step + 1) / steps if step > 0 else 0.0
        rate = smallest * (largest / smallest) ** part if mode == "exponential" else smallest + part * (largest - smallest)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss = mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        mean = beta * mean + (1 - beta) * loss.item()
        rates.append(rate)
        losses.append(loss.item())
        smoothed.append(mean / (1 - beta ** (step + 2)))
        if step > 0 and smoothed[-1] > threshold * best:
            break
        best = smoothed[-1] if step == 0 else min(best, smoothed[-1])
    key = f"lr_find_{mode}.{type_name}"
    counted = torch.tensor(smoothed, dtype=torch.float64)[10:-1]
    for what, values in (("rates", rates), ("losses", losses), ("smoothed", smoothed)):
        reference.add(key, what, values)
    spacing = [torch.tensor(rates, dtype=torch.float64)[10:-1]]
    suggestion = 10 + torch.gradient(counted, spacing=spacing)[0].argmin().item()
    reference.add(key, "suggestion", [float(suggestion)])
    assert 12 < suggestion < len(rates) - 3 and len(rates) < steps, f"{mode}: the curve shows too little"


for dtype in TYPES:
    find_rate("exponential", dtype, 50.0)
    find_rate("linear", dtype, 3.0)
    for case in CASES:
        run(case, dtype)
    log_means(dtype)
reference.save()
