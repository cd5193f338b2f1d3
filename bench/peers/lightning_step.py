"""A training step under Lightning, for bench/run, with its fastest settings: `barebones` switches logger, checkpoints,
progress bar, model summary and sanity check off, the DataLoader hands out batches that are there, without workers, and
Adam is the fused one.
"""
import logging
import time
import warnings

import lightning as L
import torch
from torch.nn.functional import cross_entropy

from common import BATCHES, LR, arguments, report
from torch_step import make


class MadeBatches(torch.utils.data.Dataset):
    def __init__(self, batches, steps):
        self.batches, self.steps = batches, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return self.batches[index % BATCHES]


class Mlp(L.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net
        self.seconds = 0.0

    def training_step(self, batch, batch_idx):
        x, y = batch
        return cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), LR, fused=True)

    def on_train_epoch_start(self):
        self.start = time.perf_counter()

    def on_train_epoch_end(self):  # the last epoch's time stays
        self.seconds = time.perf_counter() - self.start


def main():
    case, _ = arguments("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # that no workers load and nothing is logged is what we want
    net, batches = make(case)
    model = Mlp(net)
    loader = torch.utils.data.DataLoader(MadeBatches(batches, case.steps), batch_size=None, num_workers=0)
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", devices=1, barebones=True)
    trainer.fit(model, loader)
    report(us=model.seconds / case.steps * 1e6)


if __name__ == "__main__":
    main()
