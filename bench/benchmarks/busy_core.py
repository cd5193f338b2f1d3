"""Training while other processes keep cores busy, by how OpenMP's threads wait."""
import os

from harness.benchmark import ROOT, Bar, Benchmark, Contender, Measure, Run

SETTINGS = {"spin_10000": {"GOMP_SPINCOUNT": "10000"}, "default": {}, "spin_1000": {"GOMP_SPINCOUNT": "1000"},
            "one_thread": {"OMP_NUM_THREADS": "1"}}
BESIDE = {"nothing beside it": 0, "a loop bound to one core beside it": 1, "two loops beside it": 2}


def runs(setting):
    batches = ["10" if setting.quick else "100"]
    found = []
    for case, loops in BESIDE.items():
        for who, variables in SETTINGS.items():
            if setting.quick and (loops, who) not in ((0, "spin_10000"), (1, "one_thread")):  # few, since CI is busy too
                continue
            command = [os.path.join(ROOT, "bench/busy_core"), setting.program("examples/digits"), str(loops), *batches]
            found.append(Run(command, case, who, {"OMP_NUM_THREADS": None, "MKL_NUM_THREADS": None, **variables}))
    return found


BENCHMARK = Benchmark(
    name="busy_core",
    place=90,
    title="Training on cores that others use",
    about="""examples/digits with a compute thread for each core, while loops of a shell keep one core or all busy. GNU's
OpenMP reads from its environment how long threads spin for each other. `launch/run` and `launch/quickstart` set
`GOMP_SPINCOUNT=10000`; a program that is started by itself has GNU's default. Batches a second as the program itself says them,
the middle of its epochs.""",
    contenders={
        "spin_10000": Contender("GOMP_SPINCOUNT=10000", is_ours=True),
        "default": Contender("GNU's default"),
        "spin_1000": Contender("GOMP_SPINCOUNT=1000"),
        "one_thread": Contender("one thread"),
    },
    measures=(Measure("rate", "batches/s", "batches", larger_is_better=True),),
    runs=runs,
    minutes=2.5,
    bars=tuple(Bar("spin_10000", (peer,)) for peer in ("default", "one_thread")),
    programs=("examples/digits",),
    has_peers=False,
)
