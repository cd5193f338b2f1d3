#!/usr/bin/env bash
# The readers under libFuzzer, with the address and undefined sanitizers: each for some time, from the inputs in corpus/.
#
#   tests/fuzz/fuzz.sh [SECONDS [READER...]]     default: 600 s for each reader
#
# New inputs stay in build/fuzz/corpus. A finding is left in build/fuzz and ends the script with its report.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-600}
[ $# -eq 0 ] || shift
readers=("$@")
[ ${#readers[@]} -gt 0 ] || readers=("safetensors" "checkpoint" "csv" "mnist csv" "idx images" "idx labels" "config")
[ -e build/fuzz/build.ninja ] || cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
export ASAN_OPTIONS=detect_leaks=0  # LibTorch's own, at the end of the process
for reader in "${readers[@]}"; do
  committed=tests/fuzz/corpus/${reader// /_}
  found=build/fuzz/corpus/${reader// /_}
  mkdir -p "$found"
  echo "--- $reader"
  export TROUPE_FUZZ_TARGET=$reader
  TROUPE_FUZZ_SEEDS=$found build/fuzz/tests/fuzz_readers -runs=0 >/dev/null 2>&1
  build/fuzz/tests/fuzz_readers -max_total_time="$seconds" -rss_limit_mb=3000 -timeout=10 -max_len=20000 \
    -print_final_stats=1 -artifact_prefix=build/fuzz/ "$found" "$committed" >build/fuzz/fuzz.log 2>&1 ||
    { tail -n 60 build/fuzz/fuzz.log >&2; echo "error: a finding in '$reader': its bytes are in build/fuzz" >&2; exit 1; }
  grep -E 'cov: .* DONE|DONE .*cov:|stat::number_of_executed_units' build/fuzz/fuzz.log | tail -n 2
done
