"""What it costs to see a run."""
import os
import sys

from harness.benchmark import PEERS, Bar, Benchmark, Contender, Measure, Run

RUNS = 1000


def runs(setting):
    program = setting.program("bench/watching")
    folder = os.path.join(setting.folder, "runs")
    return [Run([program, "steps", *(["1", "50"] if setting.quick else ["5"])]),
            Run([program, "page"]),
            Run([sys.executable, os.path.join(PEERS, "listed_runs.py"), program, setting.program("bin/troupe"),
                 str(10 if setting.quick else RUNS), folder], f"troupe runs over {RUNS} runs", "list")]


BENCHMARK = Benchmark(
    name="watching",
    place=65,
    title="Seeing a run",
    about="""The MLP 784-128-10 b32, plain and captured: watched, with its loss logged in every step to CSV and JSON lines,
and with its card and its page kept up to date, and without any of it; phases are measured in both. The two alternate within one
process, an epoch each, and a number is the middle of five such epochs. What the marks between phases cost is timed by
itself, five marks as in a step without hooks. The page is what `report_page` makes of 20 metrics.
`troupe runs` is timed from the start of its process to its end.""",
    contenders={"watched": Contender("watched", is_ours=True), "unwatched": Contender("not watched"),
                "phases": Contender("the marks between phases", is_ours=True, is_plotted=False),
                "page": Contender("page", is_ours=True, is_plotted=False),
                "list": Contender("troupe runs", is_ours=True, is_plotted=False)},
    measures=(Measure("us", "us", "time of a step"), Measure("ms", "ms", "time"), Measure("kb", "kB", "size")),
    runs=runs,
    minutes=2,
    bars=(Bar("watched", ("unwatched",), share=1.01), Bar("phases", ("unwatched",), share=0.001)),
    programs=("bench/watching", "bin/troupe"),
    has_peers=False,
)
