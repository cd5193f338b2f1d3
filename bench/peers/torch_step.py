"""A training step under PyTorch, for bench/run: `eager`, and `compile`, where torch.compile (mode "default") makes one
function of the model with its loss, and another of the optimizer's step; backward() between them runs what the first
compiled too.

Adam is the fused one in eager mode. Under torch.compile it is the one that Inductor makes a kernel of: faster than a
call of the fused one for the smallest model, and within 6 % of it for the others, where eager mode is faster than both.
"""
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from common import BATCHES, LR, arguments, mean_us, report


def make(case):
    """The model and the batches, also for lightning_step.py."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(784, case.hidden), nn.ReLU(), nn.Linear(case.hidden, 10))
    batches = [(torch.randn(case.batch_size, 784), torch.randint(10, (case.batch_size,))) for _ in range(BATCHES)]
    return net, batches


def main():
    case, who = arguments("eager", "compile")
    net, batches = make(case)
    adam = torch.optim.Adam(net.parameters(), LR, fused=who == "eager")

    def loss_of(x, y):
        return cross_entropy(net(x), y)

    def update():
        adam.step()

    if who == "compile":
        loss_of, update = torch.compile(loss_of), torch.compile(update)

    def epoch(steps):
        for step in range(steps):
            x, y = batches[step % BATCHES]
            adam.zero_grad()
            loss_of(x, y).backward()
            update()

    report(us=mean_us(epoch, case))


if __name__ == "__main__":
    main()
