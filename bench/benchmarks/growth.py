"""How what Troupe adds to a step grows with what there is of something."""
from harness.benchmark import Benchmark, Contender, Measure, Run

POINTS = {"parameters": (10, 100, 1000, 10000), "metrics": (1, 10, 100, 1000), "callbacks": (1, 10, 100),
          "devices": (1, 2)}


def runs(setting):
    quick = ["--quick"] if setting.quick else []
    return [Run([setting.program("bench/growth"), series, str(count), *quick], f"{series} {count}", "added")
            for series, counts in POINTS.items() for count in (counts[-1:] if setting.quick else counts)]


BENCHMARK = Benchmark(
    name="growth",
    place=40,
    title="How the overhead grows",
    about="""Microseconds that are added to a step: by the cast, for a model of so many parameter tensors, over a bare LibTorch
loop; by so many calls of log() in a step, over none; by so many callbacks with two hooks of batches each, over none (in a
captured step, whose own time varies less); and by the cast on so many devices of the CPU, over as many bare loops at a time. The
slope is the exponent of the growth since the row above: 1 is linear, less is better. None is given where a number is not
above its own spread.""",
    contenders={"added": Contender("Troupe", is_ours=True)},
    measures=(Measure("us", "us", "added to a step"),),
    runs=runs,
    minutes=2,
    programs=("bench/growth",),
    has_peers=False,
    growth=("parameters", "metrics", "callbacks"),  # a second device adds the reduction, once
)
