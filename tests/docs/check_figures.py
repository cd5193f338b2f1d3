#!/usr/bin/env python3
"""Finds figures of README.md and docs/*.md that differ from docs/benchmarks.md: check_figures.py FOLDER.

bench/harness/figures.py says how a figure is marked. What is wrong goes to stderr, one line each, as FILE:LINE: WHAT.
"""
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from harness import figures  # noqa: E402

if __name__ == "__main__":
    problems = figures.check(sys.argv[1])
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)
