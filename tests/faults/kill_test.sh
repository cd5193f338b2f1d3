#!/usr/bin/env bash
# A run that is stopped again and again, each time at a random moment, and goes on from its newest valid checkpoint,
# ends with the very bits of the run that nobody stopped: weights, metrics, and all rows of its curves.
#
#   kill_test.sh [KILLS [WAY...]]     default: 10 by the first way, 3 by each of the others
#
#   one        SIGKILL, one process; other numbers of fetchers in each part
#   signal     SIGTERM, one process, which writes a checkpoint wherever it is: in windows and in validations
#   devices    SIGKILL, two devices in one process
#   ranks      SIGKILL of one of two ranks under mpirun
#   captured   SIGKILL, one process; every other part of the run captures its steps (trainer.capture_step)
#   stalls     SIGKILL of one of two ranks, one of which waits for half a minute for a sample in each part of the run, longer than
#              a step may take: the watchdog must not mind. Minutes, so by its name alone (ctest -C slow)
set -euo pipefail
kills=${1:-}
[ $# -eq 0 ] || shift
ways=("$@")
[ ${#ways[@]} -gt 0 ] || ways=(one signal devices ranks captured)
program=$TROUPE_BUILD_DIR/tests/kill_program
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1

start() {  # start WAY ROOT [FETCHERS]: its numbers on stdout
  local command=("$program" fit --ckpt_path auto --trainer.default_root_dir "$2" --model.fetchers "${3:-2}")
  case $1 in
    devices) command+=(--trainer.devices 2) ;;
    captured) [ "$((${3:-1} % 2))" -ne 0 ] || command+=(--trainer.capture_step auto) ;;  # else it is held against
    ranks) command=("$TROUPE_SOURCE_DIR/tests/mpirun.sh" 2 "${command[@]}") ;;
    stalls)
      command=("$TROUPE_SOURCE_DIR/tests/mpirun.sh" 2 "${command[@]}" --model.pause 20 --model.stall "$stall" --model.stall_at $((RANDOM % 600))) ;;
  esac
  "${command[@]}" 2>>"$folder/err" | sed -E 's/^\[[0-9]+,[0-9]+\]<stdout>: ?//'
}

milliseconds() { echo "$(($(date +%s%N) / 1000000))"; }

# The processes of the run below ROOT.
processes() {
  local each
  for each in $(pgrep -x kill_program); do
    if { tr '\0' ' ' <"/proc/$each/cmdline"; } 2>/dev/null | grep -qF -- "$1 "; then echo "$each"; fi
  done
}

curves() {  # curves ROOT: each value once, by whichever part of the run it was written
  cat "$1"/*/version_*/metrics.csv | awk -F, '
    $1 == "epoch" { for (i = 1; i <= NF; i++) name[i] = $i; next }
    { for (i = 3; i <= NF; i++) if ($i != "") print $1, $2, name[i], $i }' | sort -u
}

compare() {  # compare ROOT: what the run below it printed, and left
  cmp -s "$folder/expected" "$folder/found" || {
    echo "error: by the way '$way' the run ends otherwise after $killed kills:" >&2
    diff "$folder/expected" "$folder/found" >&2 || tail -n 50 "$folder/err" >&2
    exit 1
  }
  curves "$1" >"$folder/curves_found"
  cmp -s "$folder/curves" "$folder/curves_found" || {
    echo "error: by the way '$way' the curves are others after $killed kills:" >&2
    diff "$folder/curves" "$folder/curves_found" | head -n 20 >&2
    exit 1
  }
  left=$(find "$1" -name '*.tmp')
  [ -z "$left" ] || { echo "error: temporary files are left: $left" >&2; exit 1; }
}

# A run that comes to its end is compared, and another one begun, until all kills have hit.
try() {  # try WAY KILLS
  local way=$1 wanted=$2 began took started root delay one signal=KILL
  [ "$way" != signal ] || signal=TERM
  stall=0
  began=$(milliseconds)
  start "$way" "$folder/whole_$way" >"$folder/expected" || { cat "$folder/err" >&2; exit 1; }
  took=$(($(milliseconds) - began))
  if [ "$way" = stalls ]; then stall=30 took=$((took + 30000)); fi
  [ "$(wc -l <"$folder/expected")" -ge 4 ] || { echo "error: it printed: $(cat "$folder/expected")" >&2; exit 1; }
  curves "$folder/whole_$way" >"$folder/curves"
  [ "$(wc -l <"$folder/curves")" -ge 100 ] || { echo "error: its curves are short" >&2; exit 1; }
  killed=0
  runs=1
  while [ "$killed" -lt "$wanted" ]; do
    root=$folder/${way}_$runs
    start "$way" "$root" $((RANDOM % 4)) >"$folder/found" 2>/dev/null &  # the shell's own "Killed"
    started=$!
    delay=$((RANDOM * 4 % (took + took / 4)))
    sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"  # the moment of the fault
    one=$(processes "$root" | shuf -n 1)
    if [ -n "$one" ] && kill "-$signal" "$one" 2>/dev/null; then killed=$((killed + 1)); fi
    if wait "$started" 2>/dev/null; then
      compare "$root"
      runs=$((runs + 1))
    fi
  done
  start "$way" "$folder/${way}_$runs" >"$folder/found" || { cat "$folder/err" >&2; exit 1; }
  compare "$folder/${way}_$runs"
  if [ "$way" = stalls ]; then
    said=$(grep -c "stalls for 30 s" "$folder/err") || { echo "error: no sample stalled" >&2; exit 1; }
    ! grep -E "has made no progress|has not answered" "$folder/err" >&2 || { echo "error: a false alarm" >&2; exit 1; }
    echo "stalls: $said, each of 30 s, and no false alarm"
  fi
  if [ "$way" = captured ]; then  # whether a part of a run above captured, and had steps left, is chance
    start "$way" "$folder/undisturbed" 2 >"$folder/found" || { cat "$folder/err" >&2; exit 1; }
    compare "$folder/undisturbed"
    grep -q "captured training_step" "$folder/err" || { echo "error: no step was captured" >&2; exit 1; }
  fi
  echo "$way: $killed of $killed kills, over $runs runs, and all ended with the bits of the one that nobody killed"
}

for way in "${ways[@]}"; do
  default=3
  [ "$way" != one ] || default=10
  try "$way" "${kills:-$default}"
done
