#!/usr/bin/env bash
# Checks from the #include lines of FOLDER's layers that they point one way and keep their libraries to themselves:
# check_layers.sh FOLDER. What is wrong goes to stderr, a line each.
set -euo pipefail
cd "$1"

extensions=(--include='*.hpp' --include='*.cpp' --include='*.h' --include='*.cu' --include='*.cuh')
start='^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]'
mpi_or_nccl='([^">]*/)?(mpi|nccl)[a-z_]*\.(h|hpp)|[^">]*ProcessGroup(MPI|NCCL)'
bad=0

forbid() {  # forbid LAYER PATTERN WHAT
  local found
  [ -d "$1" ] || { echo "error: there is no folder $1" >&2; exit 1; }
  if found=$(grep -rnE "${extensions[@]}" "$start($2)" "$1"); then
    sed "s|^|error: $1/ must not include $3: |" <<<"$found" >&2
    bad=1
  fi
}

for layer in modules runtime actors launch; do
  forbid $layer '[^">]*\.\./' 'by a relative path'
done
forbid modules '(troupe/)?(runtime|actors|launch)/' 'a layer above it'
forbid runtime '(troupe/)?(actors|launch)/' 'a layer above it'
forbid actors '(troupe/)?launch/' 'a layer above it'
for layer in modules runtime actors; do
  forbid $layer 'troupe/troupe\.hpp' 'the umbrella header, which brings all layers'
done
for layer in modules runtime; do
  forbid $layer '(caf/|[^">]*/caf\.hpp)' 'CAF'
done
for layer in modules actors; do
  forbid $layer "$mpi_or_nccl" 'MPI or NCCL'
done
exit $bad
