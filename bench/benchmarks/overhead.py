"""What the cast costs a step."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run


def runs(setting):
    return [Run([setting.program("bench/overhead"), *(["1", "20"] if setting.quick else ["5"])])]


BENCHMARK = Benchmark(
    name="overhead",
    place=30,
    title="Overhead of a step",
    about="""The MLPs of the captured step, through the whole cast with the loss logged in every step to the default sinks,
in a loop with Fabric, which logs nothing, and in a bare LibTorch loop. The sides alternate within one process, an epoch each,
since a difference of 1 % is less than that between two processes whose memory lies elsewhere; a number is the middle of five
such epochs. The last column is what naming slow ranks costs a step with three collective operations: two looks at the clock
for each. What Fabric adds is less than the spread of these numbers, and measured by itself: steps with and without it, on the same
model and optimizer, take turns one by one (ABBA, then BAAB), the median of the differences with half of its 95 % interval.""",
    contenders={"plain": Contender("Troupe, plain", is_ours=True), "captured": Contender("Troupe, captured", is_ours=True),
                "fabric": Contender("Fabric", is_ours=True), "fabric_captured": Contender("Fabric, captured", is_ours=True),
                "bare": Contender("bare LibTorch loop"), "marks": Contender("marks of collectives", is_ours=True, is_plotted=False)},
    measures=(Measure("us", "us", "time of a step"), Measure("added", "us", "added to a bare loop's step", is_plotted=False),
              Measure("reach", "us", "half of the 95 % interval of that", is_plotted=False)),
    runs=runs,
    minutes=6,
    bars=(Bar("plain", ("bare",), share=1.01, plus=2), Bar("captured", ("bare",), share=1.01, plus=2),
          Bar("fabric", ("bare",), measure="added", most=1), Bar("fabric_captured", ("bare",), share=1, plus=1),
          Bar("marks", ("bare",), share=0.001)),
    programs=("bench/overhead",),
    has_peers=False,
)
