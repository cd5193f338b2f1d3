"""What else a Trainer does in a loop, over 50 steps or so: training_loops.py FILE

- "truncated": an LSTM on sequences "truncated.x" [20, 10, 3], parts of 4 steps of time each, hidden states detached.
- "lbfgs", "lbfgs_clipped", in float64: the losses are those of every call of the closure.
- "scheduled_accumulation": 4 batches a step, from epoch 2 on 1, from epoch 8 on 3.
- "ema", "ema_sparse", "swa", "swa_without_buffers": torch.optim.swa_utils.AveragedModel of a net with batch norm. Its
  weights, and "<case>.<type>.val_loss", the average's in every epoch once there is one.
"""
import copy

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common import STEPS, TYPES, Reference

SIZE = 8


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x, hidden=None):
        out, hidden = self.lstm(x, hidden)
        return self.head(out), hidden


def normed():
    return nn.Sequential(nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 3))


plain = Reference(15)
x, y = plain.randn("x", 45, 6), plain.randn("y", 45, 3)
x_val, y_val = plain.randn("x.val", 21, 6), plain.randn("y.val", 21, 3)
recurrent = Reference(16, Recurrent, "truncated.start.")
x_time, y_time = recurrent.randn("x.time", 20, 10, 3), recurrent.randn("y.time", 20, 10, 2)
averaged = Reference(17, normed, "averaged.start.")


def truncated(key, dtype):
    model = recurrent.model(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    losses = []
    for _ in range(6):
        for i in range(0, 20, SIZE):
            hidden = None
            for begin in range(0, 10, 4):
                part = slice(i, i + SIZE), slice(begin, begin + 4)
                out, hidden = model(x_time[part].to(dtype), hidden)
                hidden = [h.detach() for h in hidden]
                losses.append(mse_loss(out, y_time[part].to(dtype)))
                optimizer.zero_grad()
                losses[-1].backward()
                optimizer.step()
    recurrent.add_run(key, losses, model)


def lbfgs(key, dtype, bound=None):
    model = plain.model(dtype)
    optimizer = torch.optim.LBFGS(model.parameters(), 0.3, max_iter=4, history_size=6)
    inputs, targets = x.to(dtype), y.to(dtype)
    losses = []

    def closure():
        optimizer.zero_grad()
        losses.append(mse_loss(model(inputs), targets))
        losses[-1].backward()
        if bound:
            nn.utils.clip_grad_value_(model.parameters(), bound)
        return losses[-1]

    for _ in range(STEPS):
        optimizer.step(closure)
    plain.add_run(key, losses, model)


def scheduled_accumulation(key, dtype):
    model = plain.model(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    losses = []
    for epoch in range(13):
        count = SIZE * (4 if epoch < 2 else 1 if epoch < 8 else 3)
        for i in range(0, 45, count):
            optimizer.zero_grad()
            losses.append(mse_loss(model(x[i:i + count].to(dtype)), y[i:i + count].to(dtype)))
            losses[-1].backward()
            optimizer.step()
    assert len(losses) == STEPS
    plain.add_run(key, losses, model)


def averaging(key, dtype, is_due, decay=None, use_buffers=True):
    """Batches of 8 but the last one, whose samples are 5."""
    model = averaged.model(dtype)
    average = AveragedModel(model, multi_avg_fn=decay and get_ema_multi_avg_fn(decay), use_buffers=use_buffers)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    losses, validation, step = [], [], 0
    for epoch in range(9):
        for i in range(0, 45, SIZE):
            optimizer.zero_grad()
            losses.append(mse_loss(model(x[i:i + SIZE].to(dtype)), y[i:i + SIZE].to(dtype)))
            losses[-1].backward()
            optimizer.step()
            step += 1
            if is_due(step, epoch, False):
                average.update_parameters(model)
        validated = copy.deepcopy(average.module if average.n_averaged > 0 else model).eval()
        if not use_buffers:  # they are those that the model has now
            for mine, now in zip(validated.buffers(), model.buffers()):
                mine.copy_(now)
        with torch.no_grad():
            validation.append(mse_loss(validated(x_val.to(dtype)), y_val.to(dtype)))
        if is_due(step, epoch, True):
            average.update_parameters(model)
    averaged.add_run(key, losses, average.module)
    averaged.add(key, "val_loss", validation)


for name, dtype in TYPES.items():
    truncated(f"truncated.{name}", dtype)
    scheduled_accumulation(f"scheduled_accumulation.{name}", dtype)
    averaging(f"ema.{name}", dtype, lambda step, epoch, is_end: not is_end, 0.9)
    averaging(f"ema_sparse.{name}", dtype, lambda step, epoch, is_end: not is_end and step % 3 == 0 and step >= 9, 0.8)
    averaging(f"swa.{name}", dtype, lambda step, epoch, is_end: is_end and epoch >= 3)
    averaging(f"swa_without_buffers.{name}", dtype, lambda step, epoch, is_end: is_end and epoch >= 3, None, False)
lbfgs("lbfgs", torch.float64)
lbfgs("lbfgs_clipped", torch.float64, 0.1)
plain.tensors.update(recurrent.tensors)
plain.tensors.update(averaged.tensors)
plain.save()
