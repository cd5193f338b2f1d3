#!/usr/bin/env bash
# What is missing or of another version stops CMake with one sentence, LibTorch is searched in the documented order, and
# a project that adds Troupe's folder gets the library alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0
export HOME=$folder/home  # nothing of this machine's
unset CMAKE_PREFIX_PATH Torch_DIR TROUPE_DEPS

problem() { echo "error: $*" >&2; failures=1; }
flattened() { tr -s ' \n' ' ' <<<"$1"; }

fake_torch() {  # fake_torch ROOT VERSION
  mkdir -p "$1/include/torch/headeronly" "$1/include/fmt" "$1/lib"
  local major minor patch
  IFS=. read -r major minor patch <<<"$2"
  printf '#define TORCH_VERSION_MAJOR %s\n#define TORCH_VERSION_MINOR %s\n#define TORCH_VERSION_PATCH %s\n' \
    "$major" "$minor" "$patch" >"$1/include/torch/headeronly/version.h"
}

# A Python that says where its torch lies.
fake_python() {  # fake_python FOLDER TORCH
  mkdir -p "$1"
  printf '#!/bin/sh\necho "%s"\n' "$2" >"$1/python3"
  chmod +x "$1/python3"
}

mkdir "$folder/search"
cat >"$folder/search/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(search LANGUAGES NONE)
include("$ENV{TROUPE_SOURCE_DIR}/cmake/TroupeTorch.cmake")
message(STATUS "root: ${TROUPE_TORCH_ROOT} problem: ${TROUPE_TORCH_PROBLEM};")
CMAKE

# expect_search WHAT [cmake argument or NAME=VALUE]...: WHAT stands in what the search says.
expect_search() {
  local what=$1 said environment=()
  shift
  while [[ ${1:-} == [A-Z]*=* ]]; do environment+=("$1"); shift; done
  said=$(flattened "$(env "${environment[@]}" cmake -S "$folder/search" -B "$folder/search/$RANDOM$RANDOM" "$@" 2>&1)")
  grep -qF "$what" <<<"$said" || problem "expected '$what' with ${environment[*]} $*; CMake said: $said"
}

pinned=$(sed -n 's/^torch=//p' "$TROUPE_SOURCE_DIR/launch/versions.sh")
fake_torch "$folder/named" "$pinned"
fake_torch "$folder/old" 2.10.1
fake_torch "$folder/python torch" "$pinned"
fake_torch "$folder/deps/venv/lib/python3.11/site-packages/torch" "$pinned"
fake_torch "$folder/home/.cache/troupe/venv/lib/python3.11/site-packages/torch" "$pinned"
fake_python "$folder/with" "$folder/python torch"
fake_python "$folder/with_old" "$folder/old"
fake_python "$folder/without" ""
with="PATH=$folder/with:$PATH"
without="PATH=$folder/without:$PATH"

named="root: $folder/named problem: ;"
expect_search "$named" "$with" -DCMAKE_PREFIX_PATH="$folder/named"
expect_search "$named" "$with" -DCMAKE_PREFIX_PATH="/usr;$folder/named/share/cmake"
expect_search "$named" "$with" -DTorch_DIR="$folder/named/share/cmake/Torch"
expect_search "$named" "$with" "CMAKE_PREFIX_PATH=/usr:$folder/named"
expect_search "root: $folder/python torch problem: ;" "$with" "TROUPE_DEPS=$folder/deps"
expect_search "root: $folder/deps/venv/lib/python3.11/site-packages/torch problem: ;" \
  "$without" "TROUPE_DEPS=$folder/deps"
expect_search "root: $folder/home/.cache/troupe/venv/lib/python3.11/site-packages/torch problem: ;" "$without"
expect_search "root: $folder/home/.cache/troupe/venv/lib/python3.11/site-packages/torch problem: ;" \
  "PATH=$folder/with_old:$PATH"
expect_search "root: problem: LibTorch in $folder/old is 2.10.1 and Troupe needs $pinned: name another folder in \
CMAKE_PREFIX_PATH, or leave it out and run launch/setup.;" "$with" -DCMAKE_PREFIX_PATH="$folder/old"
expect_search "root: problem: LibTorch $pinned was not found: run launch/setup, which installs it, or name its folder \
in CMAKE_PREFIX_PATH.;" "$without" "TROUPE_DEPS=$folder/nothing"
expect_search "root: problem: LibTorch $pinned was not found (the one in $folder/old is 2.10.1): run launch/setup" \
  "PATH=$folder/with_old:$PATH" "TROUPE_DEPS=$folder/nothing"
# Another version lies beside the first, in an environment of its own.
fake_torch "$folder/deps/venv-2.99.0/lib/python3.11/site-packages/torch" 2.99.0
expect_search "root: $folder/deps/venv-2.99.0/lib/python3.11/site-packages/torch problem: ;" \
  "$without" "TROUPE_DEPS=$folder/deps" -DTROUPE_TORCH_VERSION=2.99.0
expect_search "LibTorch 2.98.0 was not found (the one in $folder/deps/venv/lib/python3.11/site-packages/torch is $pinned): \
run launch/setup --torch 2.98.0, which installs it" "$without" "TROUPE_DEPS=$folder/deps" -DTROUPE_TORCH_VERSION=2.98.0

# Troupe itself, in a build folder of its own that is configured again and again.
# expect_stop SENTENCE [cmake argument]...
expect_stop() {
  local sentence=$1 said
  shift
  if said=$(cmake -S "$TROUPE_SOURCE_DIR" -B "$folder/troupe" -G Ninja \
    -DCMAKE_CXX_COMPILER="$TROUPE_CXX" -U"CMAKE_DISABLE_FIND_PACKAGE_*" "$@" 2>&1)
  then problem "CMake went on with $*"; fi
  said=$(flattened "$said")
  grep -qF "$sentence" <<<"$said" || problem "expected '$sentence' with $*; CMake said: $said"
  [ "$(grep -o 'CMake Error' <<<"$said" | wc -l)" -eq 1 ] || problem "more than one error with $*: $said"
}

torch=(-DCMAKE_PREFIX_PATH="$TROUPE_TORCH_ROOT" -DTROUPE_TORCH_VERSION="$TROUPE_TORCH_VERSION")
expect_stop "LibTorch in $folder/old is 2.10.1 and Troupe needs $pinned: name another folder" \
  -DCMAKE_PREFIX_PATH="$folder/old"
for package in "CAF:The C++ Actor Framework (CAF) 0.17.6" spdlog:spdlog nlohmann_json:nlohmann-json ZLIB:zlib \
               PNG:libpng JPEG:libjpeg-turbo Deflate:libdeflate Protozero:protozero xxHash:xxHash Tomlplusplus:toml++; do
  expect_stop "${package#*:} was not found: run launch/setup, which installs it." \
    "${torch[@]}" -DCMAKE_DISABLE_FIND_PACKAGE_"${package%%:*}"=ON
done
fake_torch "$folder/bare" "$pinned"
expect_stop "TROUPE_CUDA=ON needs a CUDA toolkit and LibTorch's CUDA libraries: install the toolkit, then run \
launch/setup again." -DCMAKE_PREFIX_PATH="$folder/bare" -DTROUPE_TORCH_VERSION="$pinned" -DTROUPE_CUDA=ON

mkdir "$folder/adds it"
cat >"$folder/adds it/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(adds_it LANGUAGES CXX)
add_subdirectory("$ENV{TROUPE_SOURCE_DIR}" troupe)
file(WRITE "${CMAKE_BINARY_DIR}/main.cpp" "int main() {}")
add_executable(adds_it "${CMAKE_BINARY_DIR}/main.cpp")
target_link_libraries(adds_it PRIVATE troupe::troupe)
foreach(_target batch_test table_test troupe_bench_table)
  if(TARGET ${_target})
    message(FATAL_ERROR "${_target} is built")
  endif()
endforeach()
CMAKE
expect_stop "Open MPI 5.98.0 was not found in $folder/home/.cache/troupe/openmpi-5.98.0: run launch/setup --mpi 5.98.0, which installs it, \
or leave TROUPE_MPI_VERSION empty for the system's." "${torch[@]}" -DTROUPE_MPI_VERSION=5.98.0
said=$(cmake -S "$folder/adds it" -B "$folder/adds it/build" -G Ninja -DCMAKE_CXX_COMPILER="$TROUPE_CXX" "${torch[@]}" 2>&1) ||
  problem "a project that adds Troupe's folder is not configured: $said"
# The folder has found the system's Open MPI and keeps it.
mkdir -p "$folder/home/.cache/troupe/openmpi-5.99.0/bin"
touch "$folder/home/.cache/troupe/openmpi-5.99.0/bin/mpicxx"
said=$(flattened "$(cmake "$folder/adds it/build" -DTROUPE_MPI_VERSION=5.99.0 2>&1 || true)")
grep -qF "and TROUPE_MPI_VERSION asks for 5.99.0: configure another folder" <<<"$said" ||
  problem "a folder with another Open MPI is configured: $said"
exit $failures
