#!/usr/bin/env bash
# Programs load LibTorch's CUDA libraries if NVIDIA's driver is there: here it is a library of that name which knows no GPU.
set -euo pipefail

digits=$TROUPE_BUILD_DIR/examples/digits
if ! grep -q -F libtorch_cuda.so "$digits"; then
  echo "SKIPPED: this build has no CUDA code"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
  echo "driver_test: $*" >&2
  exit 1
}

mkdir "$folder/driver" "$folder/torch"
printf 'int cuInit(unsigned flags) { (void)flags; return 100; }\nint cuDriverGetVersion(int* version) { *version = 0; return 0; }\n' \
  >"$folder/driver.c"
"${CXX:-g++}" -x c -shared -fPIC -Wl,-soname,libcuda.so.1 "$folder/driver.c" -o "$folder/driver/libcuda.so.1"

# fit PATHS OPTION...: with what lies at PATHS before other libraries.
fit() {
  local paths=$1
  shift
  LD_LIBRARY_PATH=$paths CUDA_VISIBLE_DEVICES='' "$digits" fit --trainer.fast_dev_run 1 \
    --trainer.default_root_dir "$folder/runs" --trainer.quiet true "$@" 2>&1
}
expect_refusal() {
  local said=$1 text=$2
  [[ $said == *"trainer.accelerator = \"cuda\", but $text"* ]] || fail "expected '$text', got: $said"
}

fit "$folder/driver" >"$folder/said" || fail "a driver without a GPU ends a run on the CPU: $(cat "$folder/said")"
expect_refusal "$(fit "$folder/driver" --trainer.accelerator cuda || true)" "no GPU was found"

# A LibTorch whose CUDA libraries are not there.
for library in "$TROUPE_TORCH_ROOT"/lib/*.so*; do
  [ "$(basename "$library")" = libtorch_cuda.so ] || ln -s "$library" "$folder/torch/"
done
expect_refusal "$(fit "$folder/driver:$folder/torch" --trainer.accelerator cuda || true)" \
  "LibTorch's CUDA libraries cannot be loaded: $folder/torch/libtorch_cuda.so"
fit "$folder/driver:$folder/torch" >"$folder/said" || fail "they end a run on the CPU: $(cat "$folder/said")"
