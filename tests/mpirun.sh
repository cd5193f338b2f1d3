#!/usr/bin/env bash
# Runs a test on N ranks of this machine, however few cores it has: mpirun.sh N PROGRAM [ARGUMENT...].
# Fails where a rank fails, also to initialise.
set -euo pipefail
ranks=$1
shift
# Open MPI refuses to run as root, as in a container, unless it is told twice.
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec mpirun -n "$ranks" --oversubscribe --tag-output --mca mpi_yield_when_idle 1 "$@"
