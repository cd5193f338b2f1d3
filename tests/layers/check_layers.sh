#!/usr/bin/env bash
# Checks from the #include lines that the layers point one way and keep their libraries to themselves.
set -euo pipefail
cd "$1"
bad=0
forbid() {  # forbid FOLDER PATTERN WHY
  if grep -rnE --include='*.hpp' --include='*.cpp' --include='*.cu' "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)" "$1"; then
    echo "error: $1/ must not include $3" >&2
    bad=1
  fi
}
forbid modules 'troupe/(runtime|actors|launch)/' 'a layer above it'
forbid runtime 'troupe/(actors|launch)/' 'a layer above it'
forbid actors 'troupe/launch/' 'a layer above it'
forbid modules 'caf/' 'CAF'
forbid runtime 'caf/' 'CAF'
forbid modules '(mpi|nccl)\.h' 'MPI or NCCL'
forbid actors '(mpi|nccl)\.h' 'MPI or NCCL'
exit $bad
