"""The all-reduce of PyTorch's Gloo backend between two processes of this machine, for bench/run collectives: the sizes and
numbers of calls of bench/collectives.cpp, and what it prints.
"""
import statistics
import time

import torch
import torch.distributed as dist

from common import report
from gloo_ranks import run_two_ranks

SAMPLES = 5
CASES = [(4 << 10, 100), (16 << 10, 100), (64 << 10, 100), (256 << 10, 50), (1 << 20, 30), (4 << 20, 10), (16 << 20, 4),
         (64 << 20, 2)]


def measure(rank):
    for size, repeats in CASES:
        tensor, times = torch.ones(size // 4), []
        for _ in range(SAMPLES + 1):
            dist.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                dist.all_reduce(tensor)
            times.append((time.perf_counter() - start) / repeats * 1e6)
        if rank == 0:
            name = f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"
            report(case=name, us=statistics.median(times[1:]))  # the first warms up


run_two_ranks(measure)
