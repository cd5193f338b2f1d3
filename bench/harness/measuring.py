"""Runs the rounds of a benchmark and keeps every number."""
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

from harness.environment import cores_in_use, fail, say, variables

BUSY = 0.15  # cores that something else uses, from where a warning is due


def is_ours(benchmark, run):
    return run.who not in benchmark.contenders or benchmark.contenders[run.who].is_ours


def title(benchmark, run):
    """Of the run itself: what it measures, or its program if its lines say that."""
    known = [run.case, benchmark.contenders[run.who].label if run.who in benchmark.contenders else ""]
    return ", ".join(filter(None, known)) or shlex.join(os.path.basename(word) for word in run.command)


def finished(command, environment, limit):
    """What became of it, or None if it took longer than `limit` seconds: it has been killed then, with all that it
    started (workers, ranks)."""
    # A session of its own: one signal ends all of it.
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=limit)
            return subprocess.CompletedProcess(command, process.returncode, out, err)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise


def cells_of(benchmark, run):
    """What the run prints: [(case, who, measure, value)], or None if it took longer than its limit."""
    environment = {name: value for name, value in {**variables(), **run.environment}.items() if value is not None}
    shown = shlex.join(run.command)
    try:
        done = finished(run.command, environment, run.limit)
    except OSError as error:
        fail(f"'{shown}' does not start: {error.strerror}")
    if done is None:
        say(f"'{shown}' took more than {run.limit:g} s and was stopped: there will be no numbers of it")
        return None
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
    """An object for the JSON file. A run that takes longer than its limit costs its own numbers, those of the rounds
    before too (half of a cell's rounds are no median beside another's five), and is left out from then on."""
    values, busy, start = {}, [], time.monotonic()
    late, printed = {}, {}  # by the run's place in its round: the run; the cells that it printed
    for number in range(rounds):
        busy.append(round(cores_in_use(0.1 if setting.quick else 1.0), 2))
        if busy[-1] > BUSY and not setting.quick:
            say(f"something else keeps {busy[-1]} cores busy: the numbers will be off")
        say(f"{benchmark.name}, round {number + 1} of {rounds}")
        folder = tempfile.mkdtemp(prefix="troupe_bench_run_")
        try:
            runs = benchmark.runs(setting._replace(folder=folder))
            places = range(len(runs))
            for place in (places if number % 2 == 0 else reversed(places)):
                cells = None if place in late else cells_of(benchmark, runs[place])
                if cells is None:
                    late[place] = runs[place]
                for case, who, key, value in cells or ():
                    values.setdefault((case, who, key), []).append(value)
                    printed.setdefault(place, set()).add((case, who, key))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    lost = {cell for place in late for cell in printed.get(place, ())}
    return {"rounds": rounds, "quick": setting.quick, "seconds": round(time.monotonic() - start, 1),
            "cores_in_use_before": busy,
            "cells": [{"case": case, "who": who, "measure": key, "values": all_values}
                      for (case, who, key), all_values in values.items() if (case, who, key) not in lost],
            "late": [{"what": title(benchmark, run), "is_ours": is_ours(benchmark, run), "limit": run.limit}
                     for run in late.values()]}
