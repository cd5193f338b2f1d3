"""What a benchmark is. Each file of bench/benchmarks defines one as BENCHMARK; bench/run finds it there by itself.

A benchmark is measured in rounds. A round is a list of runs, each a process that prints its numbers as lines of JSON; every
second round goes through them backwards, so that what else the machine does meets all contenders alike.

    {"us": 95.2}                                          of the run's case and contender
    {"case": "784-16-10 b8", "who": "bare", "us": 95.2}   or of those that the line names
"""
import os
from typing import Callable, NamedTuple, Optional

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PEERS = os.path.join(ROOT, "bench/peers")


class Measure(NamedTuple):
    """A kind of number. `key` is its name in the lines that programs print."""
    key: str
    unit: str
    title: str
    larger_is_better: bool = False
    is_plotted: bool = True


class Contender(NamedTuple):
    label: str
    is_ours: bool = False
    is_plotted: bool = True


class Bar(NamedTuple):
    """How many times better `ours` has to be than `peer`: a factor, or None to show the ratio without a bar.

    With `share` and `plus` instead of a factor, ours may be `share` times the peer's and `plus` more, in the measure's
    unit, and the ratio shown is ours over the peer's. If `peer` has several names, the better of them is the peer.

    With `most` ours may be that at most, in the measure's unit: of what is a difference from `peer` already.
    """
    ours: str
    peer: tuple
    factor: Optional[float] = None
    cases: tuple = ()  # empty: all
    measure: str = ""  # empty: the first one
    share: Optional[float] = None
    plus: float = 0
    most: Optional[float] = None


class Run(NamedTuple):
    command: list
    case: str = ""
    who: str = ""
    environment: dict = {}  # added to the common one; None removes a variable
    limit: float = 240  # seconds; the slowest takes half a minute. One that takes longer is stopped and has no numbers


class Setting(NamedTuple):
    """What a benchmark's `runs` gets."""
    build: str  # folder of the build
    python: str  # of the peers; empty in the quick form, which has no peers in Python
    folder: str  # for files, removed after the benchmark
    quick: bool = False

    def program(self, name):
        return os.path.join(self.build, name)

    def ranks(self, name, *words):
        """A program under mpirun with two ranks."""
        return [os.path.join(ROOT, "launch/run"), "-n", "2", "--quiet", self.program(name), *words]

    def peer(self, script, *words):
        return [self.python, os.path.join(PEERS, script), *map(str, words)]


class Benchmark(NamedTuple):
    name: str
    place: int  # in --all and on the page
    title: str
    about: str  # Markdown for the page: what is measured, how
    contenders: dict  # by name
    measures: tuple
    runs: Callable  # of a Setting: the runs of a round
    minutes: float  # of five rounds, on the machine of docs/benchmarks.md
    bars: tuple = ()
    programs: tuple = ()  # below the folder of the build
    has_peers: bool = True  # in Python
    growth: tuple = ()  # cases are "SERIES COUNT": a table of slopes and a plot of lines; no slope of these may exceed
    # that of linear growth

    def measure(self, key=""):
        return next(m for m in self.measures if key in ("", m.key))
