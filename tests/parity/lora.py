"""50 steps of a perceptron whose linear layers have low-rank adapters: lora.py FILE

The adapters are written from the formula of Hu et al. 2021 (arXiv 2106.09685). Inputs "x" [50, 16, 6] and "y" [50, 16, 3],
initial weights "start.<parameter>", those of A and B too; for each type "lora.<type>.losses" [50],
"lora.<type>.<parameter>" and the weights with the adapters in them, "lora.<type>.merged.<layer>".
"""
import torch
from torch.nn.functional import linear, mse_loss

from common import STEPS, TYPES, Reference

R, ALPHA = 2, 6


class Adapted(torch.nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.lora_A = torch.nn.Linear(inputs, R, bias=False)
        self.lora_B = torch.nn.Linear(R, outputs, bias=False)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)

    def forward(self, x):
        return linear(x, self.weight, self.bias) + ALPHA / R * (x @ self.lora_A.weight.T) @ self.lora_B.weight.T


def perceptron():
    return torch.nn.Sequential(Adapted(6, 9), torch.nn.Tanh(), Adapted(9, 3))


reference = Reference(11, make=perceptron)
x, y = reference.randn("x", STEPS, 16, 6), reference.randn("y", STEPS, 16, 3)
for type_name, dtype in TYPES.items():
    model = reference.model(dtype)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.02, fused=True)
    losses = []
    for inputs, targets in zip(x.to(dtype), y.to(dtype)):
        optimizer.zero_grad()
        loss = mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss)
    reference.add_run(f"lora.{type_name}", losses, model)
    for layer in (0, 2):
        merged = model[layer].weight + ALPHA / R * model[layer].lora_B.weight @ model[layer].lora_A.weight
        reference.tensors[f"lora.{type_name}.merged.{layer}"] = merged.detach().clone()
reference.save()
