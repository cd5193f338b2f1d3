"""50 steps of accumulated gradients and of clipped ones: accumulation.py FILE

Samples "x" [64, 6] and "y" [64, 3]; for each case, of so many samples in batches of 8 of which 3 (or 10) make a step,
"<case>.<way>.<type>.losses" and weights. The way "samples" takes one large batch for each window; its losses are those
of windows. "batches" is Lightning's: each batch's loss divided by 3, whatever the window holds; its losses are those of
batches. "norm" and "value" are as "samples", with the gradients clipped.
"""
import torch
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from common import STEPS, TYPES, Reference

# Samples, batches of a window. 48 samples are 6 batches; 56 are 7, so that a window of one is left; 45 end with a batch
# of 5 in a full window; 53 end with one alone.
CASES = {"full": (48, 3), "short_window": (56, 3), "short_batch": (45, 3), "both": (53, 3), "one_window": (53, 10),
         "single": (53, 1)}
OPTIMIZERS = {"sgd": lambda p: torch.optim.SGD(p, 0.1, 0.9), "adamw": lambda p: torch.optim.AdamW(p, 0.01)}
SIZE = 8
# Such that some steps, or elements, are clipped and some are not.
BOUNDS = {"norm": 0.35, "value": 0.05}

reference = Reference(11)
x, y = reference.randn("x", 64, 6), reference.randn("y", 64, 3)


def windows(samples, count):
    """The batches of each window, as (begin, end)."""
    batches = [(i, min(i + SIZE, samples)) for i in range(0, samples, SIZE)]
    return [batches[i:i + count] for i in range(0, len(batches), count)]


def clip(way, parameters):
    """The share of the gradient's elements that this changed."""
    before = torch.cat([p.grad.flatten() for p in parameters])
    if way == "norm":
        clip_grad_norm_(parameters, BOUNDS[way])
    if way == "value":
        clip_grad_value_(parameters, BOUNDS[way])
    return (before != torch.cat([p.grad.flatten() for p in parameters])).double().mean().item()


def run(case, way, optimizer_name, type_name):
    samples, count = CASES[case]
    dtype = TYPES[type_name]
    model = reference.model(dtype)
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    losses, steps = [], 0

    def loss_of(begin, end):
        losses.append(mse_loss(model(x[begin:end].to(dtype)), y[begin:end].to(dtype)))
        return losses[-1]

    while steps < STEPS:
        for window in windows(samples, count)[:STEPS - steps]:
            optimizer.zero_grad()
            if way == "batches":
                for batch in window:
                    (loss_of(*batch) / count).backward()
            else:
                loss_of(window[0][0], window[-1][1]).backward()
            clipped[way].append(clip(way, list(model.parameters())))
            optimizer.step()
            steps += 1
    reference.add_run(f"{case}.{way}.{optimizer_name}.{type_name}", losses, model)


WAYS = {"samples": list(CASES)[:-1], "batches": list(CASES)[:-1], "norm": ["full", "both", "single"],
        "value": ["full", "both", "single"]}
clipped = {way: [] for way in WAYS}  # shares, of all steps
for way, cases in WAYS.items():
    for dtype in TYPES:
        for case in cases:
            run(case, way, "sgd", dtype)
        run("both", way, "adamw", dtype)
for way in BOUNDS:
    share = sum(clipped[way]) / len(clipped[way])
    assert 0.05 < share < 0.95, f"{way} clips {share} of all elements"
reference.save()
