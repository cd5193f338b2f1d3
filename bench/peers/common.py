"""What the peers of bench/run share: the models' sizes, their arguments, and the line that they print.

PROGRAM MODEL WHO [STEPS] prints {"us"}: the mean time of a step over an epoch of STEPS, after an epoch to warm up.
bench/step_times, which measures Troupe, takes and prints the same.
"""
import argparse
import json
import time
from typing import NamedTuple

BATCHES = 64  # made beforehand, used in turn
LR = 1e-3


class Case(NamedTuple):
    hidden: int
    batch_size: int
    steps: int  # of an epoch


CASES = [Case(16, 8, 8000), Case(128, 32, 2000), Case(512, 64, 400)]


def arguments(*contenders):
    """The case, and who of the contenders of this program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=int, choices=range(len(CASES)))
    parser.add_argument("who", choices=contenders)
    parser.add_argument("steps", type=int, nargs="?")
    given = parser.parse_args()
    case = CASES[given.model]
    return case._replace(steps=given.steps or case.steps), given.who


def mean_us(epoch, case):
    """epoch(steps) runs that many steps and returns when they are done."""
    epoch(case.steps)  # warms up: compiles, touches memory
    start = time.perf_counter()
    epoch(case.steps)
    return (time.perf_counter() - start) / case.steps * 1e6


def report(**numbers):
    print(json.dumps(numbers), flush=True)
