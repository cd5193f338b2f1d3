#!/usr/bin/env bash
# A run that is killed with SIGKILL again and again, each time at a random moment, and goes on from its newest valid
# checkpoint, ends with the very bits of the run that nobody killed.
#
#   kill_test.sh [KILLS]     default 10
set -euo pipefail
kills=${1:-10}
program=$TROUPE_BUILD_DIR/tests/kill_program
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1

start() {  # start ROOT: its numbers on stdout
  "$program" fit --ckpt_path auto --trainer.default_root_dir "$1" 2>>"$folder/err"
}

milliseconds() { echo "$(($(date +%s%N) / 1000000))"; }

began=$(milliseconds)
start "$folder/whole" >"$folder/expected" || { cat "$folder/err" >&2; exit 1; }
took=$(($(milliseconds) - began))
[ "$(wc -l <"$folder/expected")" -ge 4 ] || { echo "error: it printed: $(cat "$folder/expected")" >&2; exit 1; }

compare() {  # compare ROOT: what the run below it printed, and left
  cmp -s "$folder/expected" "$folder/found" || {
    echo "error: after $killed kills the run ends otherwise:" >&2
    diff "$folder/expected" "$folder/found" >&2 || cat "$folder/err" >&2
    exit 1
  }
  left=$(find "$1" -name '*.tmp')
  [ -z "$left" ] || { echo "error: temporary files are left: $left" >&2; exit 1; }
}

# A run that comes to its end is compared, and another one begun, until all kills have hit.
killed=0
runs=1
while [ "$killed" -lt "$kills" ]; do
  root=$folder/cut_$runs
  start "$root" >"$folder/found" &
  started=$!
  delay=$((RANDOM * 2 % (took + took / 4)))
  sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"  # the moment of the fault
  if pkill -KILL -P "$started" 2>/dev/null; then killed=$((killed + 1)); fi
  if wait "$started" 2>/dev/null; then
    compare "$root"
    runs=$((runs + 1))
  fi
done
start "$folder/cut_$runs" >"$folder/found" || { cat "$folder/err" >&2; exit 1; }
compare "$folder/cut_$runs"
echo "$killed kills hit $runs runs, and all ended with the bits of the one that nobody killed"
