"""What it costs a run that others are attached to it."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run


def runs(setting):
    return [Run([setting.program("bench/watching"), "attach", *(["1", "50"] if setting.quick else ["5"])])]


BENCHMARK = Benchmark(
    name="attach",
    place=66,
    title="A run that others look at",
    about="""The MLP 784-128-10 b32, plain and captured, with its loss logged in every step to CSV and JSON lines, its card and
page kept up to date, a viewer that is attached to it and gets all that `troupe attach` shows, and somebody who asks for
Prometheus' numbers four times a second; and without any of it. The viewer and the scraper are threads of the same process. The
two alternate, an epoch each, and a number is the middle of five such epochs.""",
    contenders={"attached": Contender("logged, attached, scraped", is_ours=True), "unwatched": Contender("not watched")},
    measures=(Measure("us", "us", "time of a step"),),
    runs=runs,
    minutes=1,
    bars=(Bar("attached", ("unwatched",), share=1.01),),
    programs=("bench/watching",),
    has_peers=False,
)
