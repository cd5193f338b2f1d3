"""From the start of a process, or of several ranks, to the first step, and the memory that it takes."""
import os
import sys

from harness.benchmark import PEERS, ROOT, Bar, Benchmark, Contender, Measure, Run

RANKS = {1: "rank", 2: "ranks_2", 4: "ranks_4"}


def runs(setting):
    watched = [sys.executable, os.path.join(PEERS, "watched.py")]
    options = ["fit", "--trainer.max_epochs", "1", "--trainer.seed", "1", "--trainer.num_threads", "1",
               "--trainer.default_root_dir", setting.folder]
    if setting.quick:
        options += ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "1"]
    found = [Run([*watched, setting.program("bench/first_step"), *options], "digits, an epoch", "ours")]
    if setting.python:
        script = setting.peer("lightning_digits.py", setting.folder)
        found.append(Run([*watched, *script], "digits, an epoch", "lightning"))
    for ranks, who in RANKS.items():
        launch = [os.path.join(ROOT, "launch/run"), "-n", str(ranks), "--quiet"]
        found.append(Run([*watched, *launch, setting.program("bench/first_step"), *options], "digits, by launch/run", who))
    return found


BENCHMARK = Benchmark(
    name="start",
    place=70,
    title="Start and memory",
    about="""examples/digits, a CNN on 5,000 images in a gzipped CSV file, and the same under Lightning: the same model,
batches, optimizer, validation, progress bar, CSV log and checkpoint. Time is from the start of the process to the end of its
first training step, with imports and the reading of the file, whose pages are in memory. The peak of resident memory is that of the
whole process, over an epoch of 125 steps with its validation and checkpoint. By launch/run it is the time from the start of the script to
the end of the first step of rank zero, with that of mpirun; the processor time is rank zero's own, user and system.""",
    contenders={"ours": Contender("Troupe", is_ours=True), "lightning": Contender("Lightning"),
                "rank": Contender("1 rank", is_ours=True), "ranks_2": Contender("2 ranks", is_ours=True),
                "ranks_4": Contender("4 ranks", is_ours=True)},
    measures=(Measure("seconds", "s", "start to first step"), Measure("processor_s", "s", "processor time to first step"),
              Measure("peak_mib", "MiB", "peak of resident memory")),
    runs=runs,
    minutes=1,
    bars=(Bar("ours", ("lightning",), 10, measure="seconds"), Bar("ours", ("lightning",), 2, measure="peak_mib"),
          Bar("ranks_2", ("rank",), share=1.5, measure="seconds"), Bar("ranks_4", ("rank",), share=1.5, measure="seconds"),
          Bar("ranks_4", ("rank",), measure="processor_s")),
    programs=("bench/first_step",),
)
