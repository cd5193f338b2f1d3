"""PowerSGD and DiLoCo as PyTorch computes them: communication.py FILE

Samples "x" [2, 24, 20] and "y" [2, 24, 12] of two ranks, which take all of theirs in each step.

PowerSGD: two processes train with DistributedDataParallel over gloo and powerSGD_hook, with SGD and momentum, for 12
steps, the first 2 of them not compressed. "<case>.<type>.<parameter>" are the weights, "<case>.<type>.q.<parameter>" the
random matrices that the first compressed step begins with.

DiLoCo: two models in one process take 5 steps each with AdamW between two steps of SGD with Nesterov's momentum on the
mean of what they have moved, 4 times: "diloco.<type>.<parameter>".
"""
import copy
import os
import sys
import tempfile

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from common import TYPES, Reference

RANKS, COMPRESSED_FROM, STEPS, INNER, OUTER = 2, 2, 12, 5, 4
CASES = {"rank_1": {"matrix_approximation_rank": 1}, "rank_2": {"matrix_approximation_rank": 2},
         "rank_4": {"matrix_approximation_rank": 4},
         "no_feedback": {"matrix_approximation_rank": 2, "use_error_feedback": False}}


def network():
    return torch.nn.Sequential(torch.nn.Linear(20, 24), torch.nn.Tanh(), torch.nn.Linear(24, 12))


reference = Reference(31, network)
x, y = reference.randn("x", RANKS, 24, 20), reference.randn("y", RANKS, 24, 12)


def first_qs(state, bucket, names):
    """What the hook is about to draw, by the names of the parameters: it has a generator of its own."""
    generator = torch.Generator().manual_seed(int(copy.deepcopy(state.rng).randint(1_000_000_000)))
    qs = {}
    for parameter, gradient in zip(bucket.parameters(), bucket.gradients()):
        if gradient.ndim < 2:
            continue
        n, m = gradient.view(gradient.shape[0], -1).shape
        rank = min(n, m, state.matrix_approximation_rank)
        if (n + m) * rank * state.min_compression_rate < n * m:
            qs[names[parameter]] = torch.randn(m, rank, generator=generator, dtype=gradient.dtype)
    return qs


def train_with_power_sgd(case, type_name, rank):
    dtype = TYPES[type_name]
    model = reference.model(dtype)
    names = {parameter: name for name, parameter in model.named_parameters()}
    state = PowerSGDState(None, start_powerSGD_iter=COMPRESSED_FROM, **CASES[case])
    key = f"{case}.{type_name}"

    def hook(state, bucket):
        if state.iter == COMPRESSED_FROM:
            reference.tensors.update({f"{key}.q.{k}": v for k, v in first_qs(state, bucket, names).items()})
        return powerSGD_hook(state, bucket)

    ddp = DistributedDataParallel(model)
    ddp.register_comm_hook(state, hook)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = mse_loss(ddp(x[rank].to(dtype)), y[rank].to(dtype))
        loss.backward()
        optimizer.step()
        losses.append(loss)
    reference.add_run(key, losses, model)


def train_with_diloco(type_name):
    dtype = TYPES[type_name]
    whole = reference.model(dtype)
    outer = torch.optim.SGD(whole.parameters(), 0.7, 0.9, nesterov=True)
    models = [reference.model(dtype) for _ in range(RANKS)]
    inner = [torch.optim.AdamW(model.parameters(), 0.01) for model in models]
    for _ in range(OUTER):
        for rank, (model, optimizer) in enumerate(zip(models, inner)):
            model.load_state_dict(whole.state_dict())
            for _ in range(INNER):
                optimizer.zero_grad()
                mse_loss(model(x[rank].to(dtype)), y[rank].to(dtype)).backward()
                optimizer.step()
        for parameter, *own in zip(whole.parameters(), *(model.parameters() for model in models)):
            parameter.grad = sum(parameter.detach() - each.detach() for each in own) / RANKS
        outer.step()
    reference.tensors.update({f"diloco.{type_name}.{k}": v.clone() for k, v in whole.state_dict().items()})


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        child = os.fork()  # no thread has been started yet
        rank = 0 if child else 1
        dist.init_process_group("gloo", store=dist.FileStore(os.path.join(folder, "store"), RANKS), rank=rank,
                                world_size=RANKS)
        for case in CASES:
            for type_name in TYPES:
                train_with_power_sgd(case, type_name, rank)
        dist.destroy_process_group()
        if rank:
            os._exit(0)
        _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"rank 1 ended with {status}")
    for type_name in TYPES:
        train_with_diloco(type_name)
    reference.save()


main()
