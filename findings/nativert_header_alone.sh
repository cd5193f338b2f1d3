#!/usr/bin/env bash
# The wheel of PyTorch 2.15.0 ships the C++ header of nativert, which runs exported programs without Python, and no library
# that has what it declares.
#
# Expected: a program that includes <torch/nativert/ModelRunnerHandle.h> and links to LibTorch as always builds; with the
# wheel of 2.11.0 it does.
# Happens: it compiles, and the linker finds no ModelRunnerHandle. None of the wheel's libraries exports a symbol of
# torch::nativert.
#
# Version: torch 2.15.0, and 2.11.0 beside it; g++
# Source: include/torch/csrc/api/include/torch/nativert/ModelRunnerHandle.h of the wheel; seen when a program that had built
# with 2.11.0 was built with 2.15.0
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cat >"$folder/run.cpp" <<'END'
#include <torch/nativert/ModelRunnerHandle.h>

int main(int argc, char** argv) {
  if (argc > 1) torch::nativert::ModelRunnerHandle(argv[1], "model");
}
END

# look VERSION: installs it, says how many symbols of ModelRunnerHandle its libraries export, and whether the program links.
look() {
  python3 -m venv --clear "$folder/venv"
  local python=$folder/venv/bin/python
  "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps "torch==$1"
  local torch found=0 links=no library
  torch=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch
  for library in "$torch"/lib/*.so; do
    found=$((found + $(nm -DC --defined-only "$library" | grep -c "torch::nativert::ModelRunnerHandle::" || true)))
  done
  g++ -std=c++20 -O0 -c -isystem "$torch/include" -isystem "$torch/include/torch/csrc/api/include" "$folder/run.cpp" \
    -o "$folder/run.o"
  # All other symbols of the wheel's libraries are left to other packages.
  if g++ "$folder/run.o" -o "$folder/run" -L"$torch/lib" -Wl,--no-as-needed -ltorch -ltorch_cpu -lc10 \
    -Wl,--allow-shlib-undefined 2>"$folder/said"; then links=yes; fi
  echo "torch $1: the program compiles; symbols of ModelRunnerHandle: $found; it links: $links"
  grep -m 1 -o "undefined.*ModelRunnerHandle[^(]*" "$folder/said" || true
  result="$found $links"
}

look 2.11.0
old=$result
look 2.15.0
[[ $old != 0\ * && $old == *yes && $result == "0 no" ]] || { echo "no longer as described" >&2; exit 1; }
echo "as described: the header is there, the code is not"
