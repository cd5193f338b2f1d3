#!/usr/bin/env bash
# The kit for GPU machines, packed from this build, unpacked elsewhere and run as on a machine without a GPU: it comes to its
# end, says what was skipped and why, and keeps within its size and its time.
set -euo pipefail
kit=$TROUPE_SOURCE_DIR/tests/gpu/kit
python=$TROUPE_TORCH_ROOT/../../../../bin/python
export CUDA_VISIBLE_DEVICES=  # no GPU, even if there is one
if [ -n "$TROUPE_CXX_FLAGS" ]; then echo "programs with a sanitizer are too large for the kit"; exit 77; fi
[ -x "$python" ] || { echo "PyTorch in $TROUPE_TORCH_ROOT is no Python's"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() { echo "error: $*" >&2; exit 1; }
expect() { grep -q -F -e "$1" "$2" || fail "'$1' is not in: $(cat "$2")"; }

# Every example and every benchmark of the build is in the plan, and each test with the label. All of them would go in.
"$kit" --build "$TROUPE_BUILD_DIR" --list >"$folder/list"
for part in examples bench; do
  for program in "$TROUPE_BUILD_DIR/$part"/*; do
    name=$part/${program##*/}
    [[ -f $program && -x $program && $name != *.so ]] || continue
    grep -q -x "programs/$name" "$folder/list" || [ "$name" = bench/distributed ] || fail "tests/gpu/plan.py does not have $name"
  done
done
ctest --test-dir "$TROUPE_BUILD_DIR" -N -L '^gpu$' | sed -n 's|^ *Test *#[0-9]*: |programs/tests/|p' | sort >"$folder/labelled"
grep '^programs/tests/' "$folder/list" | sort | diff "$folder/labelled" - || fail "the kit's tests are not those with the label gpu"

# A part of it, which is quick to pack.
"$kit" --build "$TROUPE_BUILD_DIR" --out "$folder/kit.tar.xz" --only fit_gpu_test "CNN of digits" >"$folder/said"
expect "2 programs" "$folder/said"
mkdir "$folder/another place"
tar -C "$folder/another place" -xf "$folder/kit.tar.xz"
cd "$folder/another place"
run=troupe-gpu-kit/run

"$run" --python "$python" --only fit_gpu_test "CNN of digits" >"$folder/said" || fail "$(cat "$folder/said")"
expect "no GPU: " "$folder/said"
expect "passed: tests, fit_gpu_test" "$folder/said"
expect "skipped: steps, CNN of digits, batch 32, Troupe, GPU: no GPU: " "$folder/said"
expect "passed: steps, CNN of digits, batch 32, Troupe, CPU" "$folder/said"
expect " 0 failed, 3 skipped" "$folder/said"
expect "| fit_gpu_test | Gpu.TrainsToTheSameLineAsTheCpu | skipped (1) |" results/gpu.md
expect "1. no GPU here" results/gpu.md
expect "2. no GPU: " results/gpu.md
grep -q -E '^\| CNN of digits, batch 32 \| skipped \(2\) \| skipped \(2\) \| skipped \(2\) \| [0-9.,]+ \| [0-9.,]+ \| [0-9.,]+ \|$' \
  results/gpu.md || fail "the steps are not in: $(cat results/gpu.md)"
[ "$(grep -c '"status"' results/results.jsonl)" = 7 ] || fail "there are other lines in: $(cat results/results.jsonl)"

# All of it, with no time: nothing starts.
"$run" --python "$python" --budget 1 --out none >"$folder/said" || fail "$(cat "$folder/said")"
expect "0 passed, 0 failed" "$folder/said"
expect "skipped: tests, fit_gpu_test: the budget was used up" "$folder/said"
expect "skipped: examples, custom_operator, GPU: its operator has a kernel for the CPU alone" "$folder/said"

# docs/gpu.md has the tables of a whole run; others take their place.
page=$TROUPE_SOURCE_DIR/docs/gpu.md
"$run" --list | while IFS= read -r item; do
  row=${item#*, }
  grep -q -F -e "| ${row%%, *}" "$page" || fail "docs/gpu.md has no row for '$item'"
done
cp "$page" page.md
"$kit" --page results/gpu.md page.md
expect "# GPUs" page.md
sed -n '/^<!-- tables/,/^<!-- end/p' page.md | diff - results/gpu.md || fail "the page has other tables than the run"

# A driver that says that there is a GPU: the programs find none, and that is a failure.
cat >driver.c <<'DRIVER'
#include <string.h>
int cuInit(unsigned flags) { return (int)flags; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int index) { return *device = index, 0; }
int cuDeviceGetName(char* name, int size, int device) { return strncpy(name, "Abacus", (unsigned)size), device; }
int cuDeviceTotalMem_v2(unsigned long* bytes, int device) { return *bytes = 8ul << 30, device; }
DRIVER
mkdir driver
"$TROUPE_CXX" -x c -shared -fPIC -o driver/libcuda.so.1 driver.c
if grep -q '"cuda": true' troupe-gpu-kit/kit.json; then
  status=0
  LD_LIBRARY_PATH=$PWD/driver "$run" --python "$python" --only "CNN of digits, batch 32, LibTorch, GPU" >"$folder/said" || status=$?
  [ $status = 1 ] || fail "the status of a failure is $status: $(cat "$folder/said")"
  expect "GPU: Abacus, 8 GiB" "$folder/said"
  expect "failed: steps, CNN of digits, batch 32, LibTorch, GPU: " "$folder/said"
  expect '**failed**: ended with status 1' results/gpu.md
fi

# What is wrong is said.
refuses() {  # refuses TEXT COMMAND...
  local text=$1 status=0
  shift
  "$@" >/dev/null 2>"$folder/said" || status=$?
  [ $status = 2 ] || fail "'$*' ends with $status: $(cat "$folder/said")"
  expect "$text" "$folder/said"
}
refuses "the programs need PyTorch $TROUPE_TORCH_VERSION, and /bin/false has none: name a Python" "$run" --python /bin/false
refuses "nothing has 'tpu' in its name" "$run" --only tpu
refuses "takes seconds from 1 on, not '0'" "$run" --budget 0
refuses "bench/captured is not there: build it first (1 of 1" "$kit" --build "$folder" --only "CNN of digits"
refuses "has no part between" "$kit" --page "$folder/list" page.md
cat >small.py <<'SMALL'
import importlib.machinery, importlib.util, re, sys
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("kit", sys.argv.pop(1))
kit = importlib.util.module_from_spec(importlib.util.spec_from_loader("kit", loader))
loader.exec_module(kit)
kit.MOST_BYTES = 1 << 20
kit.GLIBC = re.compile("")  # no libraries, which take time to pack
kit.main()
SMALL
refuses "MiB, and 1 MiB at most travel" \
  python3 small.py "$kit" --build "$TROUPE_BUILD_DIR" --out "$folder/large.tar.xz" --only fit_gpu_test
[ ! -e "$folder/large.tar.xz" ] || fail "a kit that is too large is there"
