"""200 steps of a GPT on the bytes of this project's licence, in float32: gpt.py FILE

"input" and "target" [N, 32], batches of 8; weights "start.*" under nanoGPT's names, and "gpt.losses".
"""
import math
import pathlib

import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from common import Reference

LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 2, 2, 32, 32, 256
STEPS, SIZE, LR, WARMUP = 200, 8, 2e-3, 50


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (part.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)
                   for part in self.c_attn(x).split(WIDTH, dim=2))
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(batch, length, WIDTH))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return self.c_proj(nn.functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH), Mlp()

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(VOCABULARY, WIDTH), "wpe": nn.Embedding(CONTEXT, WIDTH),
            "h": nn.ModuleList(Block() for _ in range(LAYERS)), "ln_f": nn.LayerNorm(WIDTH)})
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, 0, 0.02 / math.sqrt(2 * LAYERS) if name.endswith("c_proj.weight") else 0.02)
            elif name.endswith("bias"):
                nn.init.normal_(parameter, 0, 0.01)

    def forward(self, tokens):
        parts = self.transformer
        x = parts["wte"](tokens) + parts["wpe"](torch.arange(tokens.shape[1]))
        for block in parts["h"]:
            x = block(x)
        return nn.functional.linear(parts["ln_f"](x), parts["wte"].weight)


reference = Reference(19, Gpt)
text = (pathlib.Path(__file__).parents[2] / "LICENSE").read_bytes()
tokens = torch.tensor(list(text), dtype=torch.int64)
windows = tokens[:len(tokens) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
windows = windows[torch.randperm(len(windows))]
inputs, targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
reference.tensors.update({"input": inputs, "target": targets})

model = reference.model(torch.float32)
matrices = [p for p in model.parameters() if p.dim() == 2]
others = [p for p in model.parameters() if p.dim() != 2]
optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                              LR, (0.9, 0.99))
schedulers = torch.optim.lr_scheduler
scheduler = schedulers.SequentialLR(optimizer, [
    schedulers.LinearLR(optimizer, 1e-3, total_iters=WARMUP),
    schedulers.CosineAnnealingLR(optimizer, STEPS - WARMUP, LR / 10)], [WARMUP])
losses = []
while len(losses) < STEPS:
    for i in range(0, len(inputs), SIZE):
        if len(losses) == STEPS:
            break
        optimizer.zero_grad()
        logits = model(inputs[i:i + SIZE])
        losses.append(cross_entropy(logits.flatten(0, 1), targets[i:i + SIZE].flatten()))
        losses[-1].backward()
        optimizer.step()
        scheduler.step()
reference.add_run("gpt", losses, model)
reference.save()
