"""The all-reduce of PyTorch's Gloo backend between two processes of this machine, for bench/collectives.

gloo_all_reduce.py BYTES:REPEATS... prints a JSON list with the seconds of one all-reduce, for each argument a list of
samples. Every sample is the mean of REPEATS calls of float32, as bench/collectives measures.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

SAMPLES = 5


def measure(rank, size, folder, cases):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    results = []
    for nbytes, repeats in cases:
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
    dist.destroy_process_group()


def main():
    cases = [tuple(int(part) for part in case.split(":")) for case in sys.argv[1:]]
    if "TROUPE_BENCH_RANK" in os.environ:
        measure(int(os.environ["TROUPE_BENCH_RANK"]), 2, os.environ["TROUPE_BENCH_FOLDER"], cases)
        return
    with tempfile.TemporaryDirectory() as folder:
        ranks = []
        for rank in range(2):
            environment = dict(os.environ, TROUPE_BENCH_RANK=str(rank), TROUPE_BENCH_FOLDER=folder)
            ranks.append(subprocess.Popen([sys.executable, __file__, *sys.argv[1:]], env=environment))
        sys.exit(max(abs(process.wait()) for process in ranks))


main()
