#!/usr/bin/env bash
# Troupe under SLURM (with_slurm.sh), by the scripts of examples/slurm: a run that is preempted, one that is cancelled, one
# whose time is over, a job array, and srun without PMIx. SLURM looks at time limits twice a minute, so the first three go
# on beside each other.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[ "${1:-}" = --inside ] || exec "$here/with_slurm.sh" 2 "$0" --inside
# shellcheck source=tests/slurm/jobs.sh
source "$here/jobs.sh"

preempted=$(train --nodelist=node1,node2 --time=1 --signal=USR1@60)
late=$(train --nodelist=node1,node2 --signal=CONT@1)  # nothing, in place of SIGUSR1
cancelled=$(train --nodelist=node1)
for job in $preempted $late $cancelled; do
  within "job $job trains" checkpoints "$job"
done
say "three runs train"

# With a limit of a minute the signal comes each time that SLURM looks, while the program starts too.
{ within "job $preempted is back" is_back "$preempted" && scontrol update "job=$preempted" TimeLimit=60; } &
raise=$!

scontrol update "job=$late" EndTime=now

scancel "$cancelled"
ends "$cancelled" CANCELLED
is_orderly "$cancelled" SIGTERM
say "cancelled"

# Open MPI cannot start without PMIx, nor with what is left of it from a step around this one.
refuses() {  # refuses NAME COMMAND...
  local status=0
  timeout $patience "${@:2}" >"$1" 2>&1 || status=$?
  [ "$status" -eq 2 ] || fail "$1 ends with $status: $(cat "$1")"
  [ "$(grep -c "use srun --mpi=pmix" "$1")" -eq 2 ] || fail "$1: not both ranks say what to use: $(cat "$1")"
  says_not "$1" MPI_Init
}
for kind in pmi2 none; do
  refuses "$kind" srun --mpi=$kind -n 2 "$program" fit
  refuses "$kind within pmix" srun --job-name=interactive --mpi=pmix -n 1 --cpus-per-task=2 \
    srun --overlap --mpi=$kind -n 2 --cpus-per-task=1 "$program" fit
done
say "without PMIx nothing starts"

for ranks in 2 4; do trains_whole $ranks; done
say "2 and 4 ranks have trained"

array=$(sbatch --parsable --array=1-2 "$scripts/array.sbatch" "$program")
for task in 1 2; do
  within "${array}_$task ends" has_ended "${array}_$task"
  says "array-${array}_$task.out" "fit finished in"
  [ -n "$(find "runs/$array/$task" -name last.safetensors)" ] || fail "the task $task of the array left no checkpoint"
done
[ "$(numbers "array-${array}_1.out")" != "$(numbers "array-${array}_2.out")" ] || fail "two seeds, and the same numbers"
say "an array of two"

ends "$late" TIMEOUT
is_orderly "$late" SIGTERM
says_not "train-$late.out" "back in the queue"
say "out of time"

wait $raise
is_orderly "$preempted" SIGUSR1
says "train-$preempted.out" "the job $preempted is back in the queue"
goes_on "$preempted" 2
say "preempted, and gone on"
exit $failures
