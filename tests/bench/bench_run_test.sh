#!/usr/bin/env bash
# bench/run in its quick form: every program runs, and tables, page and plots are whole. It measures nothing that counts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run=$TROUPE_SOURCE_DIR/bench/run

fail() {
  echo "error: $*" >&2
  exit 1
}

"$run" --all --quick --build "$TROUPE_BUILD_DIR" --json "$folder/all.json" >"$folder/tables" 2>"$folder/err" ||
  fail "$(cat "$folder/err")"
names=$("$run" --list | grep -v -e --all | cut -d' ' -f1)
for name in $names; do
  grep -q "($name)" "$folder/tables" || fail "there is no table of $name in: $(cat "$folder/tables")"
done

# What to type for the same is recorded, without this machine's folders.
grep -qF '"command": "bench/run --all --quick"' "$folder/all.json" || fail "the command is: $(grep '"command"' "$folder/all.json")"

# The page of it says that it is a trial, and has each benchmark, its plots and its figures.
"$run" --page "$folder/page.md" "$folder/all.json" || fail "the page was not written"
for name in $names; do
  grep -q "bench/run $name" "$folder/page.md" || fail "$name is not on the page"
done
grep -q "A trial" "$folder/page.md" || fail "the page does not say that it is a trial"
python3 - "$folder" <<'CHECK' || fail "the plots or the figures are broken"
import glob, os, sys, xml.dom.minidom
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["TROUPE_SOURCE_DIR"], "bench"))
from harness import figures
plots = glob.glob(sys.argv[1] + "/page/*.svg")
assert len(plots) >= 8 and all(xml.dom.minidom.parse(plot) for plot in plots), plots
assert sum(os.path.getsize(plot) for plot in plots) < 100_000
with open(sys.argv[1] + "/page.md", encoding="utf-8") as page:
    found = figures.figures_of(page.read())
assert any(name.startswith("captured_step, ") and name.endswith("bare/captured") for name in found), found
CHECK

# The model of docs/scaling.md, of which bench/scaling_check says how wrong it is: with a core for each rank nothing is added,
# with half a core each everything takes twice as long, and a link takes what its rate says.
python3 - <<'MODEL' || fail "the model of scaling is wrong"
import math, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["TROUPE_SOURCE_DIR"], "bench"))
from scaling_model import Cluster, Layer, Link, Model, all_reduce, oversubscribed, step
link = Link(1e-6, math.inf)
here = Cluster("here", 8, link, link, software=1e9)
model = Model("one layer", [Layer(1_000_000, 1.0)], alone=0.01, together=0.002)
same, cluster = oversubscribed(model, here, 2, 2)
assert step(same, cluster, 2) == step(model, here, 2) == 0.012 + all_reduce(here, 2, 4_000_000)
slower, cluster = oversubscribed(model, here, 4, 2)
assert math.isclose(step(slower, cluster, 4), 2 * (0.012 + all_reduce(here, 4, 4_000_000)))
slow = Cluster("slow", 1, link, Link(1e-6, 12.5e6), software=1e9)
assert math.isclose(step(model, slow, 2) - step(model, here, 2), 4_000_000 / 12.5e6)
MODEL

# What the page makes of known numbers: ratios by rounds, bars that are met and missed, a difference within the noise.
python3 - "$folder" <<'KNOWN'
import json, sys
def cells(case, measure="us", **values):
    return [{"case": case, "who": who, "measure": measure, "values": numbers} for who, numbers in values.items()]
def measured(*groups):
    return {"rounds": 5, "quick": False, "seconds": 1, "cores_in_use_before": [0.1] * 5,
            "cells": [cell for group in groups for cell in group]}
steady = [100, 101, 99, 100, 100]
run = {"command": "bench/run", "started": "today", "revision": "abc", "versions": {}, "machine": {
    "cpu": "Z80", "cores": 1, "kernel": "1", "memory_gib": 1}, "benchmarks": {
    "captured_step": measured(cells("784-16-10 b8", captured=[20, 25, 20, 20, 25], bare=[80, 90, 100, 80, 90],
                                    eager=[400, 400, 400, 400, 400], compile=[150, 150, 150, 150, 150])),
    "overhead": measured(cells("784-16-10 b8", plain=[103] * 5, bare=steady), cells("b", plain=[103.1] * 5, bare=steady)),
    "log": measured(cells("1 a step", "us_per_call", plain=[1] * 5, captured=[-1, 0, 1, 0, 0], lightning=[49] * 5)),
    "growth": measured(cells("metrics 10", added=[5] * 5), cells("metrics 100", added=[50] * 5))}}
with open(sys.argv[1] + "/known.json", "w") as file:
    json.dump(run, file)
KNOWN
"$run" --page "$folder/known.md" "$folder/known.json"
while read -r line; do
  grep -q -F -e "$line" "$folder/known.md" || fail "'$line' is not in: $(cat "$folder/known.md")"
done <<'LINES'
| 784-16-10 b8 | 20.0 ± 5.0 | 90.0 ± 10.0 | 400 ± 0 | 150 ± 0 |
| 784-16-10 b8 | Troupe, captured | bare LibTorch loop | 4.00 ± 0.40 | at least 4 | yes |
| 784-16-10 b8 | Troupe, captured | PyTorch, torch.compile | 7.50 ± 1.50 | at least 10 | **no** |
| 784-16-10 b8, time of a step | Troupe, plain | bare LibTorch loop | 1.03 ± 0.00 | at most 1.01 and 2 us | yes |
| b, time of a step | Troupe, plain | bare LibTorch loop | 1.03 ± 0.00 | at most 1.01 and 2 us | **no** |
| 1 a step | Troupe, plain | Lightning, self.log | 49.0 ± 0.0 | at least 50 | **no** |
| 1 a step | Troupe, captured | Lightning, self.log | within the noise | at least 50 | yes |
| metrics | 100 | 50.0 ± 0.0 | 0.500 | 1.00 |
The steepest slope of parameters, metrics, callbacks is 1.00, at 100 metrics; the bar is 1.1 (linear, and a tenth for the noise): met.
captured_step, 784-16-10 b8, bare/captured: 4.00
LINES
if grep -q "A trial\|Other programs ran" "$folder/known.md"; then fail "five quiet rounds are called a trial"; fi

# A peer that hangs in a round costs its numbers, with all that it started, and not the benchmark; the page says so.
python3 - "$folder" <<'LATE' 2>"$folder/err" || fail "a peer that hangs: $(cat "$folder/err")"
import json, os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["TROUPE_SOURCE_DIR"], "bench"))
from harness import registry
from harness.benchmark import Run, Setting
from harness.measuring import measure
mark = sys.argv[1] + "/child"
prints = """echo '{"us": 2}'"""
# Its child, for which its pipes stay open, hangs too, in the second round.
hangs = f"""[ -e {mark} ] || {{ echo > {mark}; {prints}; exit; }}; sleep 1000 & echo $! > {mark}; wait"""
def runs(_):
    return [Run(["sh", "-c", prints], "784-16-10 b8", "captured"), Run(["sh", "-c", hangs], "784-16-10 b8", "bare", limit=0.5),
            Run(["sh", "-c", prints], "784-16-10 b8", "eager")]
found = measure(registry.benchmarks()["captured_step"]._replace(runs=runs), 3, Setting("", "", "", quick=True))
assert [(cell["who"], cell["values"]) for cell in found["cells"]] == [("captured", [2] * 3), ("eager", [2] * 3)], found
assert found["late"] == [{"what": "784-16-10 b8, bare LibTorch loop", "is_ours": False, "limit": 0.5}], found
with open(mark) as file:
    child = f"/proc/{file.read().strip()}/stat"
try:
    with open(child) as file:
        assert ") Z " in file.read(), "its child runs on"
except FileNotFoundError:
    pass
with open(sys.argv[1] + "/late.json", "w") as file:
    json.dump({"command": "bench/run", "started": "today", "revision": "abc", "versions": {}, "machine": {
        "cpu": "Z80", "cores": 1, "kernel": "1", "memory_gib": 1}, "benchmarks": {"captured_step": found}}, file)
LATE
"$run" --page "$folder/late.md" "$folder/late.json"
grep -qF '**784-16-10 b8, bare LibTorch loop: took more than 0.5 s and was stopped, so there are no numbers of it.**' \
  "$folder/late.md" || fail "the page does not say who hung: $(cat "$folder/late.md")"

# Bad arguments are told from programs that break.
expect() {  # expect CODE TEXT ARGUMENT...
  local wanted=$1 text=$2 code=0
  shift 2
  "$run" "$@" >/dev/null 2>"$folder/err" || code=$?
  [ "$code" -eq "$wanted" ] && grep -q -e "$text" "$folder/err" || fail "$*: $code, $(cat "$folder/err")"
}
expect 2 "did you mean captured_step?" captured_steps
expect 2 "There are captured_step, " zebra
expect 2 "name a benchmark" --rounds 5
expect 2 "no file that bench/run --json has written" --page "$folder/page.md" "$folder/gone.json"
expect 2 "leave --rounds and --page out" overhead --quick --rounds 5
expect 1 "is missing; make it with" overhead --quick --build "$folder"
