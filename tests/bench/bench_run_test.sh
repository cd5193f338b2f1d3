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
