#!/usr/bin/env bash
# Checks from the #include lines of FOLDER's layers that they point one way and keep their libraries to themselves:
# check_layers.sh FOLDER. What is wrong goes to stderr, a line each.
set -euo pipefail
cd "$1"

extensions=(--include='*.hpp' --include='*.cpp' --include='*.h' --include='*.cu' --include='*.cuh')
start='^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]'
mpi_or_nccl='([^">]*/)?(mpi|nccl)[a-z_]*\.(h|hpp)|[^">]*ProcessGroup(MPI|NCCL)'
bad=0

forbid() {  # forbid LAYER PATTERN WHAT [GREP OPTION...]
  local found layer=$1 pattern=$2 what=$3
  shift 3
  [ $# -gt 0 ] || set -- "${extensions[@]}"
  [ -d "$layer" ] || { echo "error: there is no folder $layer" >&2; exit 1; }
  if found=$(grep -rnE "$@" "$start($pattern)" "$layer"); then
    sed "s|^|error: $layer/ must not include $what: |" <<<"$found" >&2
    bad=1
  fi
}

for layer in base modules runtime actors launch; do
  forbid $layer '[^">]*\.\./' 'by a relative path'
done
forbid base '(troupe/)?(modules|runtime|actors|launch)/' 'a layer above it'
forbid modules '(troupe/)?(runtime|actors|launch)/' 'a layer above it'
forbid runtime '(troupe/)?(actors|launch)/' 'a layer above it'
forbid actors '(troupe/)?launch/' 'a layer above it'
for layer in base modules runtime actors; do
  forbid $layer 'troupe/troupe\.hpp' 'the umbrella header, which brings all layers'
done
for layer in base modules runtime; do
  forbid $layer '(caf/|[^">]*/caf\.hpp)' 'CAF'
done
for layer in base modules actors; do
  forbid $layer "$mpi_or_nccl" 'MPI or NCCL'
done
# Of LibTorch the ground floor knows the exception that it throws.
forbid base "(torch|ATen|caffe2|c10/(core|cuda|util/[A-DF-Z]))[^\">]*" "LibTorch, but for c10/util/Exception.h"
# MPI's own header stays in sources that need it: who uses Troupe does not see it.
mpi='([^">]*/)?mpi\.h'
headers=(--include='*.hpp' --include='*.h' --include='*.cuh')
for layer in runtime launch; do
  forbid $layer "$mpi" 'mpi.h in a header' "${headers[@]}"
done
forbid runtime "$mpi" 'mpi.h outside of collectives/' --exclude-dir=collectives "${extensions[@]}"

# What a user's program sees: the headers that troupe.hpp reaches. They know the cast as little as the replica, so that a
# change there, or another version of CAF, breaks no user.
reached=$'launch/troupe.hpp'
waiting=$reached
while [ -n "$waiting" ]; do
  found=""
  for header in $waiting; do
    [ -e "$header" ] || { echo "error: there is no header $header, which troupe.hpp reaches" >&2; bad=1; continue; }
    if wrong=$(grep -nE "$start(caf/|[^\">]*/caf\.hpp|(troupe/)?(actors|runtime/replica)/)" "$header"); then
      sed "s|^|error: troupe.hpp reaches $header, which must not include CAF, the cast or the replica: |" <<<"$wrong" >&2
      bad=1
    fi
    found+=$(sed -nE 's|^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]troupe/([^">]+)[">].*|\1|p' "$header")$'\n'
  done
  waiting=$(sort -u <<<"$found" | sed '/^$/d' | grep -vxF "$reached" || true)
  reached+=$'\n'$waiting
done
exit $bad
