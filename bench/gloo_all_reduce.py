"""The all-reduce of PyTorch's Gloo backend between two processes of this machine, for bench/collectives.

gloo_all_reduce.py BYTES:REPEATS... prints a JSON list with the seconds of one all-reduce, for each argument a list of
samples. Every sample is the mean of REPEATS calls of float32, as bench/collectives measures.
"""
import json
import sys
import time

import torch
import torch.distributed as dist

from gloo_ranks import run_two_ranks

SAMPLES = 5
CASES = [tuple(int(part) for part in case.split(":")) for case in sys.argv[1:]]


def measure(rank):
    results = []
    for nbytes, repeats in CASES:
        tensor = torch.ones(nbytes // 4)
        samples = []
        for sample in range(-1, SAMPLES):
            dist.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                dist.all_reduce(tensor)
            if sample >= 0:  # the first warms up
                samples.append((time.perf_counter() - start) / repeats)
        results.append(samples)
    if rank == 0:
        print(json.dumps(results))


run_two_ranks(measure)
