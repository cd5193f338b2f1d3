"""What a call of log() costs, against Lightning's."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

COUNTS = (1, 10, 100)


def runs(setting):
    found = []
    for count in COUNTS:
        case, words = f"{count} a step", [setting.program("bench/growth"), "metrics", str(count)]
        quick = ["--quick"] if setting.quick else []
        found.append(Run([*words, *quick], case, "plain"))
        found.append(Run([*words, "captured", *quick], case, "captured"))
        if setting.python:
            found.append(Run(setting.peer("lightning_log.py", count), case, "lightning"))
    return found


BENCHMARK = Benchmark(
    name="log",
    place=50,
    title="A call of log()",
    about="""The MLP 784-16-10, batches of 8. What is added to a step by 1, 10 or 100 calls of log() with a tensor and the
default options, for each call: epochs with and without them alternate in one process, and the
fastest of both count. Both write every 50th step to a CSV file;
Troupe also writes an event file for TensorBoard.""",
    contenders={"plain": Contender("Troupe, plain", is_ours=True), "captured": Contender("Troupe, captured", is_ours=True),
                "lightning": Contender("Lightning, self.log")},
    measures=(Measure("us_per_call", "us", "time of a call"),),
    runs=runs,
    minutes=2.5,
    bars=(Bar("plain", ("lightning",), 50), Bar("captured", ("lightning",), 50)),
    programs=("bench/growth",),
)
