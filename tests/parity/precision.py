"""50 steps, or 2,400, in every precision: precision.py FILE

Samples "x" [56, 6] and "y" [56, 3]; for each case "<case>.losses" and weights, both as they are. Those of "16-mixed"
train on "y.wild", with a target whose gradients overflow float16 under a large scale; they have "<case>.scales", the
gradient scaler's before each of its steps, and "<case>.skipped", the number of steps that it left out.
"""
import torch
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_

from common import STEPS, Reference

LONG = 2400  # a scale grows after 2,000 steps without an overflow
SIZE = 8
reference = Reference(12)
x, y = reference.randn("x", 56, 6), reference.randn("y", 56, 3)
wild = reference.tensors["y.wild"] = y.clone()
wild[20] = 30

class WideSGD(torch.optim.SGD):
    """SGD of 16 bits that computes in float32 and rounds what it keeps.

    That is what the fused kernel does with what does not fill a block of 16 elements; of whole blocks PyTorch 2.11's
    steps nothing on the CPU.
    """

    def __init__(self, parameters, lr, momentum):
        parameters = list(parameters)
        super().__init__(parameters, lr, momentum)
        self.narrow = parameters
        self.wide = [parameter.detach().float() for parameter in parameters]
        self.inner = torch.optim.SGD(self.wide, lr, momentum, fused=True)

    @torch.no_grad()
    def step(self, closure=None):
        for narrow, wide in zip(self.narrow, self.wide):
            wide.copy_(narrow)
            wide.grad = narrow.grad.float()
        self.inner.step()
        for narrow, wide in zip(self.narrow, self.wide):
            narrow.copy_(wide)
            buffer = self.inner.state[wide]["momentum_buffer"]
            buffer.copy_(buffer.to(narrow.dtype))


def sgd(parameters):
    parameters = list(parameters)
    is_half = parameters[0].dtype in (torch.bfloat16, torch.float16)
    return WideSGD(parameters, 0.05, 0.9) if is_half else torch.optim.SGD(parameters, 0.05, 0.9, fused=True)


# Fused kernels: what modules/optim/ computes with. Others round each operation of a step to 16 bits.
OPTIMIZERS = {
    "sgd": sgd,
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    # LibTorch's own in C++. In 16 bits it rounds otherwise than Python's, also without a Trainer.
    "plain": lambda p: torch.optim.SGD(p, 0.05, 0.9, foreach=False),
}
FORMATS = {"64-true": torch.float64, "32-true": torch.float32, "bf16-true": torch.bfloat16, "16-true": torch.float16}


def run_true(precision, name):
    dtype = FORMATS[precision]
    model = reference.model(dtype)
    optimizer = OPTIMIZERS[name](model.parameters())
    losses = []
    for i in range(STEPS):
        batch = slice(i % 7 * SIZE, (i % 7 + 1) * SIZE)
        optimizer.zero_grad()
        losses.append(mse_loss(model(x[batch].to(dtype)), y[batch].to(dtype)))
        losses[-1].backward()
        optimizer.step()
    reference.add_run(f"{precision}.{name}", losses, model)


def run_mixed(precision, name, steps=STEPS, window=1, bound=None):
    """`window` batches a step, each loss divided by it."""
    kind, targets = (torch.float16, wild) if precision == "16-mixed" else (torch.bfloat16, y)
    model = reference.model(torch.float32)
    optimizer = OPTIMIZERS[name](model.parameters())
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "16-mixed")
    losses, scales, skipped = [], [], 0
    data = x.float(), targets.float()
    epoch = [range(i, min(i + window, 7)) for i in range(0, 7, window)]
    while len(scales) < steps:
        for batches in epoch[:steps - len(scales)]:
            optimizer.zero_grad()
            for i in batches:
                with torch.autocast("cpu", kind):
                    losses.append(mse_loss(model(data[0][i * SIZE:(i + 1) * SIZE]), data[1][i * SIZE:(i + 1) * SIZE]))
                scaler.scale(losses[-1] / window).backward()
            scaler.unscale_(optimizer)
            if bound:
                clip_grad_norm_(model.parameters(), bound)
            scales.append(scaler.get_scale())
            scaler.step(optimizer)
            scaler.update()
            skipped += scaler.get_scale() < scales[-1]
    key = f"{precision}.{name}" + (f".{window}" if window > 1 else "") + (".long" if steps == LONG else "")
    reference.add_run(key, losses, model)
    reference.add(key, "scales", scales)
    reference.add(key, "skipped", [skipped])
    return scales, skipped


for precision in FORMATS:
    for optimizer in OPTIMIZERS:
        if optimizer != "plain" or precision in ("64-true", "32-true"):
            run_true(precision, optimizer)
for precision in ("bf16-mixed", "16-mixed"):
    for optimizer in OPTIMIZERS:
        run_mixed(precision, optimizer)
    run_mixed(precision, "sgd", window=4, bound=0.3)
scales, skipped = run_mixed("16-mixed", "plain", LONG)
assert skipped >= 3 and any(b > a for a, b in zip(scales, scales[1:])), "the scale does not both shrink and grow"
reference.save()
