"""Reading weights: safetensors in one file, in shards and in part, and files of torch.save."""
import functools
import os

from harness.benchmark import Bar, Benchmark, Contender, Measure, Run
from harness.environment import CACHE, run_or_fail

CASES = {
    "whole": "1 GB of safetensors, one file",
    "sharded": "1 GB of safetensors, ten shards",
    "selective": "a sixth of the tensors of one file",
    "pth": "1 GB of .pth",
}
PER_BYTE = (CASES["sharded"], CASES["selective"])


@functools.cache  # not in every round
def make_data(program, folder, megabytes):
    if not os.path.exists(os.path.join(folder, "weights.pth")):  # the last one that is written
        run_or_fail([program, "make", megabytes, folder])
    return folder


def runs(setting):
    program, repeats = setting.program("bench/weights"), "1" if setting.quick else "7"
    if setting.quick:
        folder = make_data(program, os.path.join(setting.folder, "weights"), "34")
    else:
        folder = make_data(program, os.path.join(CACHE, "weights"), "1000")
    found = []
    for case, title in CASES.items():
        found.append(Run([program, case, folder, repeats], title, "ours"))
        if title in PER_BYTE:
            found.append(Run([program, "whole", folder, repeats], title, "whole"))
        if setting.python:
            found.append(Run(setting.peer("torch_weights.py", case, folder, repeats), title,
                             "torch" if case == "pth" else "safetensors"))
    return found


BENCHMARK = Benchmark(
    name="weights",
    place=84,
    title="Reading weights",
    about="""Sixty layers of 16.8 MB, in one safetensors file, in ten shards with an index, and in a file of torch.save, all in the
system's cache. Both sides make the tensors, which are the mapped file's memory, and copy each into the same memory of 16.8 MB, so that
every byte is read once: on one thread, with Troupe's `ShardedSafetensors` and `pth_weights`, Python's `load_file`, `safe_open` and
`torch.load(mmap=True, weights_only=True)`. The second number is the time until the tensors are there. The files, 3 GB, stay in the cache of
bench/run.""",
    contenders={
        "ours": Contender("Troupe", is_ours=True),
        "whole": Contender("Troupe, one file whole", is_ours=True),
        "safetensors": Contender("safetensors in Python"),
        "torch": Contender("torch.load, mapped"),
    },
    measures=(Measure("ms_per_gb", "ms/GB", "to read a gigabyte"), Measure("open_ms", "ms", "until tensors are there")),
    runs=runs,
    minutes=6,
    bars=(Bar("ours", ("safetensors",), share=1.2, cases=tuple(CASES[case] for case in ("whole", "sharded", "selective"))),
          Bar("ours", ("torch",), share=1.5, cases=(CASES["pth"],)),
          Bar("ours", ("whole",), share=1.05, cases=PER_BYTE)),
    programs=("bench/weights",),
)
