"""From the start of a process to its first step, and the memory that it takes."""
import os
import sys

from harness.benchmark import PEERS, Bar, Benchmark, Contender, Measure, Run


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
    return found


BENCHMARK = Benchmark(
    name="start",
    place=70,
    title="Start and memory",
    about="""examples/digits, a CNN on 5,000 images in a gzipped CSV file, and the same under Lightning: the same model,
batches, optimizer, validation, progress bar, CSV log and checkpoint. Time is from the start of the process to the end of its
first training step, with imports and the reading of the file, whose pages are in memory. The peak of resident memory is that of the
whole process, over an epoch of 125 steps with its validation and checkpoint.""",
    contenders={"ours": Contender("Troupe", is_ours=True), "lightning": Contender("Lightning")},
    measures=(Measure("seconds", "s", "start to first step"), Measure("peak_mib", "MiB", "peak of resident memory")),
    runs=runs,
    minutes=1,
    bars=(Bar("ours", ("lightning",), 10, measure="seconds"), Bar("ours", ("lightning",), 2, measure="peak_mib")),
    programs=("bench/first_step",),
)
