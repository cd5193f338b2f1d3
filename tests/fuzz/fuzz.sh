#!/usr/bin/env bash
# The readers under libFuzzer, with the address and undefined sanitizers: each for some time, from the inputs in corpus/.
#
#   tests/fuzz/fuzz.sh [SECONDS [READER...]]     default: 600 s for each reader
#
# TROUPE_FUZZ_BUILD names the build folder (build/fuzz). New inputs stay in its corpus/; a finding is left in it and ends
# the script with its report. Which of them reach what corpus/ does not (they are copied to it; keep a few):
#
#   ASAN_OPTIONS=detect_leaks=0 TROUPE_FUZZ_TARGET=csv build/fuzz/tests/fuzz_readers -merge=1 \
#     -use_counters=0 -max_len=1000 tests/fuzz/corpus/csv build/fuzz/corpus/csv
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${TROUPE_FUZZ_BUILD:-build/fuzz}
seconds=${1:-600}
[ $# -eq 0 ] || shift
readers=("$@")
[ ${#readers[@]} -gt 0 ] || readers=("safetensors" "safetensors index" "metadata" "csv" "blank csv" "mnist csv" "idx" "config")
command -v clang++ >/dev/null || { echo "error: libFuzzer is part of clang: apt-get install clang libclang-rt-dev" >&2; exit 1; }
[ -e "$build/build.ninja" ] || cmake --preset fuzz -B "$build" >/dev/null
cmake --build "$build" --target fuzz_readers
export ASAN_OPTIONS=detect_leaks=0                       # LibTorch's own, at the end of the process
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1  # else it goes on, and only the log says so
memory=/dev/shm                                          # every input becomes a file
[ -w "$memory" ] || memory=/tmp
TMPDIR=$(mktemp -d "$memory/troupe-fuzz-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
for reader in "${readers[@]}"; do
  name=${reader// /_}
  log=$build/fuzz_$name.log
  mkdir -p "$build/corpus/$name"
  export TROUPE_FUZZ_TARGET=$reader
  TROUPE_FUZZ_SEEDS=$build/corpus/$name "$build/tests/fuzz_readers" -runs=0 >"$log" 2>&1 ||
    { tail "$log" >&2; echo "error: '$reader' does not start" >&2; exit 1; }
  # No input is longer than 20 kB, so whoever asks for 64 MB at once has believed a size.
  "$build/tests/fuzz_readers" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=64 -timeout=10 \
    -max_len=20000 -print_final_stats=1 -artifact_prefix="$build/" "$build/corpus/$name" "tests/fuzz/corpus/$name" \
    >"$log" 2>&1 || { tail -n 60 "$log" >&2; echo "error: a finding in '$reader': its bytes are in $build" >&2; exit 1; }
  echo "$reader: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
    "$(sed -n 's/^#.*DONE *cov: \([0-9]*\).*/\1/p' "$log") edges, no finding"
done
