"""How long a checkpoint holds the training under Lightning and PyTorch, for bench/run checkpoint.

    torch_checkpoint.py lightning|lightning_async|torch_save LAYERS WIDTH SAVES FOLDER

The model, optimizer and distance between checkpoints of bench/checkpoint. Lightning: the time from the first callback's
on_train_batch_end to the next on_train_batch_start, less what it is without a checkpoint. The middle of SAVES.
"""
import logging
import os
import statistics
import sys
import time
import warnings

import torch
from torch import nn

from common import report

EVERY, WARM_UP = 5, 2
WHO, LAYERS, WIDTH, SAVES, FOLDER = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]


def stack():
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def adam(parameters):
    return torch.optim.Adam(parameters, 1e-6, fused=True)


def with_torch_save():
    model, x, held = stack(), torch.ones(1, WIDTH), []
    optimizer, path = adam(model.parameters()), os.path.join(FOLDER, "checkpoint.pt")
    for step in range(EVERY * (SAVES + WARM_UP)):
        optimizer.zero_grad()
        model(x).mean().backward()
        optimizer.step()
        if step % EVERY == EVERY - 1:
            start = time.perf_counter()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
            held.append(time.perf_counter() - start)
    return statistics.median(held[WARM_UP:])


def with_lightning():
    import lightning as L
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.plugins.io import AsyncCheckpointIO
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")

    io = AsyncCheckpointIO() if WHO == "lightning_async" else None

    class Stack(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = stack()

        def training_step(self, batch, batch_idx):
            return self.net(batch).mean()

        def configure_optimizers(self):
            return adam(self.parameters())

    class Watch(L.Callback):
        def __init__(self):
            self.held, self.plain, self.end = [], [], None

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.end = time.perf_counter()

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx:  # what is timed comes first
                (self.plain if batch_idx % EVERY else self.held).append(time.perf_counter() - self.end)
            executor = getattr(io, "_executor", None)
            if executor and batch_idx % EVERY == EVERY - 1:  # nothing is being written while the time is taken
                executor.submit(int).result()

    watch = Watch()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=FOLDER, plugins=[io] if io else None,
        callbacks=[watch, ModelCheckpoint(FOLDER, every_n_train_steps=EVERY)])
    data = [torch.ones(1, WIDTH)] * (EVERY * (SAVES + WARM_UP) + 1)
    trainer.fit(Stack(), torch.utils.data.DataLoader(data, batch_size=None))
    return statistics.median(watch.held[WARM_UP:]) - statistics.median(watch.plain)


def main():
    torch.set_num_threads(1)
    os.makedirs(FOLDER, exist_ok=True)
    seconds = with_torch_save() if WHO == "torch_save" else with_lightning()
    report(ms=seconds * 1e3)


if __name__ == "__main__":
    main()
