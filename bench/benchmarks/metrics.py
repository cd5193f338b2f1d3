"""Updates of metrics, against torchmetrics'."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run


def runs(setting):
    steps = ["20"] if setting.quick else []
    found = [Run([setting.program("bench/metrics"), who, *steps]) for who in ("plain", "captured")]
    if setting.python:
        found += [Run(setting.peer("torchmetrics_updates.py", who)) for who in ("checked", "unchecked")]
    return found


BENCHMARK = Benchmark(
    name="metrics",
    place=55,
    title="Updates of metrics",
    about="""Batches of 64: scores of ten classes and their targets, or of yes and no; 64 batches are made beforehand and used in turn.
A number is the middle of five stretches of updates. Both sides reset the metric after 64 updates, and neither computes its value.
Troupe refuses labels that are out of range, as torchmetrics does (`validate_args`, the default); torchmetrics without these checks
says nothing of them. A captured update is a captured function that does nothing else
(`Fabric::capture`), with the copy of its batch.""",
    contenders={"plain": Contender("Troupe, plain", is_ours=True), "captured": Contender("Troupe, captured", is_ours=True),
                "checked": Contender("torchmetrics"), "unchecked": Contender("torchmetrics, unchecked")},
    measures=(Measure("updates", "updates/s", "updates", larger_is_better=True),),
    runs=runs,
    minutes=1.5,
    bars=(Bar("plain", ("checked", "unchecked"), 5), Bar("captured", ("checked",), 20),
          Bar("captured", ("unchecked",))),
    programs=("bench/metrics",),
)
