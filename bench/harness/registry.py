"""The benchmarks: each file of bench/benchmarks is one."""
import difflib
import importlib
import os

from harness.benchmark import ROOT


def benchmarks():
    """By name, in their order."""
    names = sorted(name[:-3] for name in os.listdir(os.path.join(ROOT, "bench/benchmarks")) if name.endswith(".py"))
    found = [importlib.import_module(f"benchmarks.{name}").BENCHMARK for name in names]
    return {one.name: one for one in sorted(found, key=lambda one: one.place)}


def unknown(name, known):
    """A sentence about a name that no benchmark has."""
    near = difflib.get_close_matches(name, known, n=1)
    return (f"there is no benchmark '{name}'" + (f"; did you mean {near[0]}?" if near else ";") +
            f" There are {', '.join(known)}")
