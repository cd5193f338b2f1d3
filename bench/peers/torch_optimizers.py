"""A step of PyTorch's optimizers over the parameters of examples/gpt, for bench/run optimizers: `eager`, and `compile`,
where torch.compile (mode "default") makes one function of the step.

    torch_optimizers.py adamw|muon eager|compile [STEPS]

AdamW is the fused one in eager mode, and under torch.compile the one that Inductor makes kernels of. Muon takes the
matrices of the blocks, AdamW the embeddings, biases and norms. One thread; processor time, as bench/captured measures it.
"""
import argparse
import time

import torch

from common import report

VOCABULARY, CONTEXT, WIDTH, LAYERS = 256, 128, 128, 4  # GptOptions' defaults


def parameters():
    """The matrices of the blocks, and the rest, with gradients."""
    def made(*sizes):
        parameter = torch.nn.Parameter(torch.randn(*sizes) * 0.02)
        parameter.grad = torch.randn(*sizes) * 0.01
        return parameter
    matrices, rest = [], [made(VOCABULARY, WIDTH), made(CONTEXT, WIDTH)]
    for _ in range(LAYERS):
        rest += [made(WIDTH) for _ in range(4)]
        for outputs, inputs in ((3, 1), (1, 1), (4, 1), (1, 4)):
            matrices.append(made(outputs * WIDTH, inputs * WIDTH))
            rest.append(made(outputs * WIDTH))
    return matrices, rest + [made(WIDTH), made(WIDTH)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("optimizer", choices=("adamw", "muon"))
    parser.add_argument("who", choices=("eager", "compile"))
    parser.add_argument("steps", type=int, nargs="?", default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    matrices, rest = parameters()
    fused = given.who == "eager"
    if given.optimizer == "muon":
        optimizers = [torch.optim.Muon(matrices, 0.02), torch.optim.AdamW(rest, 3e-4, fused=fused)]
    else:
        optimizers = [torch.optim.AdamW(matrices + rest, 1e-3, fused=fused)]

    def step():
        for optimizer in optimizers:
            optimizer.step()

    if given.who == "compile":
        step = torch.compile(step)
    for _ in range(20):  # warms up: compiles, makes states
        step()
    start = time.process_time()
    for _ in range(given.steps):
        step()
    report(us=(time.process_time() - start) / given.steps * 1e6)


if __name__ == "__main__":
    main()
