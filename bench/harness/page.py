"""Writes docs/benchmarks.md and its plots from the JSON files of runs."""
import json
import os

from harness import figures, plots
from harness.benchmark import ROOT
from harness.environment import fail
from harness.measuring import BUSY
from harness.results import Results, number

LEAST_ROUNDS = 5
LINEAR = 1.1  # the slope of a linear growth, with what noise may add
NOTES = os.path.join(ROOT, "bench/notes")
HEAD = """# Benchmarks

Written by `bench/run --page docs/benchmarks.md`: do not edit it. What is said below the tables is from bench/notes.

Numbers are medians and interquartile ranges over rounds. In a round every contender runs once, in a process of its own;
every second round goes backwards, so that what else the machine does meets all alike. All compute with one thread on the CPU
unless a table says otherwise, and malloc keeps what a step frees, as Troupe's Trainer sets it, for all. A ratio says
how many times better the first is than the second, or, if the bar is "at most", which part of the second's number the first one's
is. It is the median of the rounds' ratios, with the interquartile range.
"""


def load(paths, known):
    """Results by benchmark, in their order, and what is known about the run of each. Later files replace earlier ones."""
    found = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                run = json.load(file)
            for name, measured in run["benchmarks"].items():
                if name in known:
                    found[name] = (Results(known[name], measured), run)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            fail(f"'{path}' is no file that bench/run --json has written: {error}", 2)
    return {name: found[name] for name in known if name in found}


def table(head, rows, left=1):
    """Markdown; the first `left` columns are text."""
    lines = ["| " + " | ".join(head) + " |",
             "|" + "|".join("---" if i < left else "---:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def spreads_table(results, measure):
    contenders = results.contenders(measure.key)
    head = [f"{measure.title}, {measure.unit}", *(results.benchmark.contenders[who].label for who in contenders)]
    rows = [[case, *(spread.text() if spread else "" for spread in
                     (results.spread(case, who, measure.key) for who in contenders))] for case in results.cases]
    return table(head, [row for row in rows if any(row[1:])])


def verdicts_table(results):
    rows = []
    for verdict in results.verdicts():
        labels = [results.benchmark.contenders[who].label for who in (verdict.ours, verdict.peer)]
        measure = results.benchmark.measure(verdict.measure)
        of = verdict.case + (f", {measure.title}" if len(results.benchmark.measures) > 1 else "")
        met = "" if verdict.met is None else "yes" if verdict.met else "**no**"
        ratio = verdict.ratio.text() if verdict.ratio else "within the noise"
        if not verdict.name:  # a difference
            ratio += f" {measure.unit}"
        rows.append([of, *labels, ratio, verdict.bar, met])
    return table(["of", "ours", "against", "ratio", "bar", "met"], rows, left=3) if rows else ""


def growth_table(results):
    rows = []
    for series, points in results.growth().items():
        for count, spread, slope in points:
            rows.append([series, f"{count:,}", spread.text(), number(spread.median / count),
                         "" if slope is None else f"{slope:.2f}"])
    unit = results.benchmark.measures[0].unit
    text = table(["of", "number", f"added to a step, {unit}", "for each", "slope"], rows)
    steepest = results.steepest()
    if steepest:
        slope, series, count = steepest
        met = "met" if slope <= LINEAR else "**missed**"
        text += (f"\nThe steepest slope of {', '.join(results.benchmark.growth)} is {slope:.2f}, at {count:,} {series}; the "
                 f"bar is {LINEAR:g} (linear, and a tenth for the noise): {met}.\n")
    return text


def is_trial(results):
    return results.measured["rounds"] < LEAST_ROUNDS or results.measured["quick"]


def section(results, run, folder):
    """A benchmark's part of the page; its plot goes to `folder`."""
    benchmark, measured = results.benchmark, results.measured
    parts = [f"## {benchmark.title}\n", f"`bench/run {benchmark.name}`. {benchmark.about.strip()}\n"]
    if is_trial(results):
        parts.append(f"**A trial: {measured['rounds']} round(s), not {LEAST_ROUNDS}. The figures say nothing yet.**\n")
    busy = [cores for cores in measured["cores_in_use_before"] if cores > BUSY]
    if busy:
        parts.append(f"**Other programs ran before {len(busy)} of {measured['rounds']} rounds, on up to {max(busy):.2g} "
                     "cores: these figures are to be measured again.**\n")
    # Files of versions before have none.
    parts += [f"**{late['what']}: took more than {late['limit']:g} s and was stopped, so there are no numbers of it.**\n"
              for late in measured.get("late", ())]
    if benchmark.growth:
        parts.append(growth_table(results))
    else:
        parts += [spreads_table(results, measure) for measure in benchmark.measures if results.contenders(measure.key)]
        parts.append(verdicts_table(results))
    for measure in benchmark.measures[:1] if benchmark.growth else benchmark.measures:
        drawn = plots.plot(results, measure) if measure.is_plotted and results.contenders(measure.key) else ""
        if drawn:
            name = benchmark.name if measure is benchmark.measures[0] else f"{benchmark.name}_{measure.key}"
            with open(os.path.join(folder, name + ".svg"), "w", encoding="utf-8") as file:
                file.write(drawn)
            parts.append(f"![{benchmark.title}: {measure.title}]({os.path.basename(folder)}/{name}.svg)\n")
    notes = os.path.join(NOTES, benchmark.name + ".md")
    if os.path.exists(notes):
        with open(notes, encoding="utf-8") as file:
            parts.append(file.read().strip().replace("](../../docs/", "](") + "\n")  # links of the notes' own folder
    return "\n".join(part for part in parts if part)


def about_runs(loaded):
    """Machine, versions and command of each run, and what it measured."""
    runs = []
    for name, (_, run) in loaded.items():
        known = next((names for other, names in runs if other is run), None)
        if known is None:
            runs.append((run, known := []))
        known.append(name)
    lines = ["## How these were measured\n"]
    for run, names in runs:
        machine = run["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        lines.append(f"- {', '.join(names)}: `{run['command']}` at {run['revision']}, {run['started']}; {machine['cpu']}, "
                     f"{machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}"
                     + (f"; {versions}" if versions else ""))
    return "\n".join(lines) + "\n"


def write(page, paths, known):
    """The page, its plots, and the figures in the pages that quote it. Returns what could not be quoted."""
    loaded = load(paths, known)
    if not loaded:
        fail(f"{' '.join(paths)}: nothing of these is in this version's list of benchmarks", 2)
    folder = os.path.splitext(page)[0]
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        if old.endswith(".svg"):
            os.remove(os.path.join(folder, old))
    found = {}
    for results, _ in loaded.values():
        # Nobody shall quote a trial.
        found.update({name: "?" if is_trial(results) else text for name, text in results.figures().items()})
    met = [verdict.met for results, _ in loaded.values() for verdict in results.verdicts() if verdict.met is not None]
    parts = [HEAD, f"{sum(met)} of {len(met)} bars are met. Where one is missed, the text below its table says why.\n"]
    parts += [section(results, run, folder) for results, run in loaded.values()]
    parts += [about_runs(loaded), figures.listed(found)]
    with open(page, "w", encoding="utf-8") as file:
        file.write("\n".join(parts))
    is_ours = os.path.realpath(page) == os.path.realpath(os.path.join(ROOT, figures.PAGE))
    return figures.rewrite(ROOT, found) if is_ours else []
