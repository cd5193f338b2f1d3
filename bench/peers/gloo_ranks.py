"""Two ranks of PyTorch's Gloo backend on this machine, for the peers in this folder."""
import os
import subprocess
import sys
import tempfile

import torch
import torch.distributed as dist


def run_two_ranks(measure):
    """Runs the script itself as two processes, each of which calls measure(rank) on one compute thread, in a group."""
    if "TROUPE_BENCH_RANK" in os.environ:
        rank, folder = int(os.environ["TROUPE_BENCH_RANK"]), os.environ["TROUPE_BENCH_FOLDER"]
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
        measure(rank)
        dist.destroy_process_group()
        return
    with tempfile.TemporaryDirectory() as folder:
        ranks = []
        for rank in range(2):
            environment = dict(os.environ, TROUPE_BENCH_RANK=str(rank), TROUPE_BENCH_FOLDER=folder)
            ranks.append(subprocess.Popen([sys.executable, *sys.argv], env=environment))
        sys.exit(max(abs(process.wait()) for process in ranks))
