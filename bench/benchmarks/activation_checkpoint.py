"""A training step with activation checkpoints against one without."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run


def runs(setting):
    return [Run([setting.program("bench/activation_checkpoint"), "1" if setting.quick else "5"])]


BENCHMARK = Benchmark(
    name="activation_checkpoint",
    place=85,
    title="Activation checkpoints",
    about="""A training step of the blocks of examples/gpt with `activation_checkpoint` around each, and without. Memory is what
LibTorch's allocator counts. The sides alternate within one process; a number is the middle of five steps.""",
    contenders={"with": Contender("with checkpoints", is_ours=True), "without": Contender("without")},
    measures=(Measure("peak_mb", "MB", "peak of memory"), Measure("ms", "ms", "time of a step")),
    runs=runs,
    minutes=0.5,
    # A forward pass more, of what were a forward pass and a backward pass of twice the work.
    bars=(Bar("with", ("without",), 2.5, measure="peak_mb"), Bar("with", ("without",), share=1.4, measure="ms")),
    programs=("bench/activation_checkpoint",),
    has_peers=False,
)
