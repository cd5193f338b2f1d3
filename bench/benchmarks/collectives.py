"""The all-reduce of two ranks against Gloo."""
from harness.benchmark import Bar, Benchmark, Contender, Measure, Run

SMALL = ("4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB", "4 MiB")
LARGE = ("16 MiB", "64 MiB")


def runs(setting):
    quick = ["--quick"] if setting.quick else []
    found = [Run(setting.ranks("bench/collectives", "mpi", *quick), who="mpi"),
             Run([setting.program("bench/collectives"), "memory", *quick], who="memory")]
    if setting.python:
        found.append(Run(setting.peer("gloo_all_reduce.py"), who="gloo"))
    return found


BENCHMARK = Benchmark(
    name="collectives",
    place=65,
    title="An all-reduce of two ranks",
    about="""The sum of a float32 tensor over two ranks of this machine, one compute thread each: over MPI, between two threads
of one process, and over PyTorch's Gloo from the same LibTorch.""",
    contenders={"mpi": Contender("MPI, 2 processes", is_ours=True), "memory": Contender("memory, 2 threads", is_ours=True),
                "gloo": Contender("Gloo, 2 processes")},
    measures=(Measure("us", "us", "time of an all-reduce"),),
    runs=runs,
    minutes=1,
    bars=tuple(Bar(who, ("gloo",), factor, cases) for who in ("mpi", "memory") for factor, cases in ((3, SMALL), (1, LARGE))),
    programs=("bench/collectives",),
)
