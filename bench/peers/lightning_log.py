"""What a call of self.log() adds to a step under Lightning, for bench/run log.

    lightning_log.py COUNT [STEPS]

The model and the settings of lightning_step.py, but for what logging needs: `barebones` refuses it, so the parts that it
switches off are switched off one by one, and a CSVLogger writes every 50th step. Epochs with COUNT calls in each step and
without any alternate; the difference of the fastest of each is divided by COUNT.
"""
import logging
import sys
import tempfile
import time
import warnings

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.nn.functional import cross_entropy

from common import CASES, LR, report
from lightning_step import MadeBatches
from torch_step import make

ROUNDS = 4


class Mlp(L.LightningModule):
    def __init__(self, net, count):
        super().__init__()
        self.net, self.names = net, [f"metric_{i}" for i in range(count)]
        self.seconds = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = cross_entropy(self.net(x), y)
        if self.current_epoch % 2:
            value = loss.detach()
            for name in self.names:
                self.log(name, value)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), LR, fused=True)

    def on_train_epoch_start(self):
        self.start = time.perf_counter()

    def on_train_epoch_end(self):
        self.seconds.append(time.perf_counter() - self.start)


def main():
    count = int(sys.argv[1])
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 100 if count < 100 else 50  # the sinks get every 50th
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    net, batches = make(CASES[0])
    model = Mlp(net, count)
    loader = torch.utils.data.DataLoader(MadeBatches(batches, steps), batch_size=None, num_workers=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(max_epochs=2 * (ROUNDS + 1), accelerator="cpu", devices=1, logger=CSVLogger(folder),
                            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                            num_sanity_val_steps=0)
        trainer.fit(model, loader)
    added = min(model.seconds[3::2]) - min(model.seconds[2::2])  # the first two warm up
    report(us_per_call=added / steps / count * 1e6)


if __name__ == "__main__":
    main()
