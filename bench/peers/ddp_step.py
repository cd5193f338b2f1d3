"""A training step under PyTorch's DistributedDataParallel over Gloo, two processes of this machine, for
bench/run distributed.

    ddp_step.py MODEL STEPS

MODEL is mlp, gpt or tiny-gpt: the models, batches and optimizers of bench/rank_models.hpp. Prints the mean time of a step
over an epoch of STEPS, after an epoch to warm up.

The settings are the fastest that PyTorch documents: gradients as views of the buckets, the fused optimizer, no buffers
to broadcast. A static graph and smaller buckets made it no faster.
"""
import math
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.nn.parallel import DistributedDataParallel

from common import report
from gloo_ranks import run_two_ranks

SIZES = {"gpt": (4, 4, 128, 128, 16), "tiny-gpt": (2, 2, 32, 32, 8)}
LAYERS, HEADS, WIDTH, CONTEXT, BATCH = SIZES.get(sys.argv[1], SIZES["gpt"])
VOCABULARY, DROPOUT, LR, WARMUP = 256, 0.1, 2e-3, 50
BATCHES = 64  # made beforehand, then served again


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))

    @staticmethod
    def batch():
        return torch.randn(64, 784), torch.randint(10, (64,))

    def loss(self, output, target):
        return cross_entropy(output, target)

    def optimizer(self, steps):
        return torch.optim.Adam(self.parameters(), fused=True), None


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (part.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)
                   for part in self.c_attn(x).split(WIDTH, dim=2))
        y = scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT, is_causal=True)
        return self.dropout(self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, WIDTH)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH),
                                 nn.Dropout(DROPOUT))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.h = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.ln_f, self.dropout = nn.LayerNorm(WIDTH), nn.Dropout(DROPOUT)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("c_proj.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, 0, 0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    @staticmethod
    def batch():
        text = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1))
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    def forward(self, tokens):
        x = self.dropout(self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1])))
        return nn.functional.linear(self.ln_f(self.h(x)), self.wte.weight)

    def loss(self, output, target):
        return cross_entropy(output.flatten(0, 1), target.flatten())

    def optimizer(self, steps):
        matrices = [p for p in self.parameters() if p.dim() == 2]
        others = [p for p in self.parameters() if p.dim() != 2]
        adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  LR, (0.9, 0.99), fused=True)
        schedulers = torch.optim.lr_scheduler
        return adamw, schedulers.SequentialLR(adamw, [
            schedulers.LinearLR(adamw, 1e-3, total_iters=WARMUP),
            schedulers.CosineAnnealingLR(adamw, max(1, steps - WARMUP), LR / 10)], [WARMUP])


def train(rank):
    name, steps = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(1)
    model = Mlp() if name == "mlp" else Gpt()
    batches = [model.batch() for _ in range(BATCHES)]
    ddp = DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False)
    optimizer, scheduler = model.optimizer(2 * steps)
    for _ in range(2):  # the first warms up: buckets are laid out anew, pages touched
        dist.barrier()
        start = time.perf_counter()
        for step in range(steps):
            x, y = batches[step % BATCHES]
            optimizer.zero_grad()
            model.loss(ddp(x), y).backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
        seconds = time.perf_counter() - start
    if rank == 0:
        report(us=seconds / steps * 1e6)


run_two_ranks(train)
