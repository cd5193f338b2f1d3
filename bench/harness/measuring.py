"""Runs the rounds of a benchmark and keeps every number."""
import json
import shlex
import shutil
import subprocess
import tempfile
import time

from harness.environment import cores_in_use, fail, say, variables

TIMEOUT = 600  # seconds of one process; the slowest takes half a minute
BUSY = 0.15  # cores that something else uses, from where a warning is due


def cells_of(benchmark, run):
    """What the run prints: [(case, who, measure, value)]."""
    environment = {name: value for name, value in {**variables(), **run.environment}.items() if value is not None}
    shown = shlex.join(run.command)
    try:
        done = subprocess.run(run.command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        fail(f"'{shown}' took more than {TIMEOUT} s")
    except OSError as error:
        fail(f"'{shown}' does not start: {error.strerror}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        fail(f"'{shown}' ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    cells = [cell for line in lines for cell in cells_of_line(benchmark, run, line, shown)]
    if not cells:
        fail(f"'{shown}' printed none of {', '.join(m.key for m in benchmark.measures)}:\n{done.stdout[-2000:]}")
    return cells


def cells_of_line(benchmark, run, line, shown):
    try:
        found = json.loads(line)
        case, who = found.get("case", run.case), found.get("who", run.who)
        cells = [(case, who, measure.key, float(found[measure.key]))
                 for measure in benchmark.measures if measure.key in found]
    except (ValueError, TypeError, AttributeError):
        fail(f"'{shown}' printed '{line}', which is no object with numbers")
    if who not in benchmark.contenders:
        fail(f"'{shown}' printed '{line}': {benchmark.name} has no contender '{who}'")
    return cells


def measure(benchmark, rounds, setting):
    """An object for the JSON file."""
    values, busy, start = {}, [], time.monotonic()
    for number in range(rounds):
        busy.append(round(cores_in_use(0.1 if setting.quick else 1.0), 2))
        if busy[-1] > BUSY and not setting.quick:
            say(f"something else keeps {busy[-1]} cores busy: the numbers will be off")
        say(f"{benchmark.name}, round {number + 1} of {rounds}")
        folder = tempfile.mkdtemp(prefix="troupe_bench_run_")
        try:
            runs = benchmark.runs(setting._replace(folder=folder))
            for run in (runs if number % 2 == 0 else reversed(runs)):
                for case, who, key, value in cells_of(benchmark, run):
                    values.setdefault((case, who, key), []).append(value)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return {"rounds": rounds, "quick": setting.quick, "seconds": round(time.monotonic() - start, 1),
            "cores_in_use_before": busy,
            "cells": [{"case": case, "who": who, "measure": key, "values": all_values}
                      for (case, who, key), all_values in values.items()]}
