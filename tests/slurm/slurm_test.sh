#!/usr/bin/env bash
# Troupe under SLURM (with_slurm.sh), by the scripts of examples/slurm: a run that is preempted, one that is cancelled, one
# whose time is over, two that lose a node, a job array, and srun without PMIx. SLURM looks at time limits and at lost
# nodes twice a minute, so the first five go on beside each other.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[ "${1:-}" = --inside ] || exec "$here/with_slurm.sh" 4 "$0" --inside

scripts=$TROUPE_SOURCE_DIR/examples/slurm
patience=90  # seconds for whatever has to happen
failures=0
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1  # the nodes have the same cores

fail() { echo "error: $*" >&2; failures=1; }
give_up() { fail "$@"; tail -n 20 "$SLURM_FOLDER"/*.log >&2; exit 1; }

# The first part of a run takes its time, so that something can happen to it: more than half a minute.
program=$SLURM_FOLDER/program
cat >"$program" <<END
#!/usr/bin/env bash
pause=0
[ -z "\${SLOW:-}" ] || [ -n "\${SLURM_RESTART_COUNT:-}" ] || pause=\$((40 * SLURM_STEP_NUM_TASKS))
exec "$TROUPE_BUILD_DIR/tests/kill_program" "\$@" --model.pause \$pause --trainer.val_check_interval 10 --trainer.max_epochs 20
END
chmod +x "$program"
mkdir "$SLURM_FOLDER/jobs"
cd "$SLURM_FOLDER/jobs"

within() {  # within WHAT COMMAND [ARGUMENT...]: until the command succeeds
  local what=$1 until=$((SECONDS + patience))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || give_up "not within $patience s: $what; $(squeue 2>&1); $(tail -n 50 ./*.out 2>&1)"
    sleep 0.1
  done
}

train() { SLOW=yes sbatch --parsable "$@" "$scripts/train.sbatch" "$program"; }  # train OPTION_OF_SBATCH...: the job

field() { scontrol show job -o "$1" | grep -oP "\b$2=\K\S+" | head -n 1; }  # field JOB NAME
has_ended() { [[ $(field "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }
is_back() { [ "$(field "$1" Restarts)" -ge 1 ]; }

checkpoints() { compgen -G "runs/$1/*/version_*/checkpoints/*" >/dev/null; }  # of JOB

ends() {  # ends JOB STATE
  within "job $1 ends" has_ended "$1"
  [ "$(field "$1" JobState)" = "$2" ] || fail "job $1 is $(field "$1" JobState) in place of $2: $(tail -n 20 "train-$1.out")"
}

says() { grep -qE -- "$2" "$1" || fail "'$2' is missing in $1: $(tail -n 20 "$1")"; }
says_not() { ! grep -qE -- "$2" "$1" || fail "'$2' is in $1"; }

# A checkpoint was written, and the run came to its end by itself.
is_orderly() {  # is_orderly JOB SIGNAL
  says "train-$1.out" "stopped: interrupted by $2"
  says "train-$1.out" "fit was interrupted after"
  [ -n "$(find "runs/$1" -name last.safetensors)" ] || fail "job $1 left no checkpoint"
}

# What the last part of a run has printed, which all bits of its weights and metrics make.
numbers() { grep -E '^(weights|train_|val_)' "$1" | tail -n 6; }

goes_on() {  # goes_on JOB RANKS: to the bits of the run that nobody disturbed
  ends "$1" COMPLETED
  [ "$(numbers "train-$1.out")" = "$(numbers "whole_$2")" ] ||
    fail "job $1 ends with other bits: $(numbers "train-$1.out"), not $(numbers "whole_$2")"
}

say() { echo "$SECONDS s: $*"; }

SECONDS=0
preempted=$(train --nodelist=node1,node2 --time=1 --signal=USR1@60)
late=$(train --nodelist=node1,node2 --signal=CONT@1)  # nothing, in place of SIGUSR1
cancelled=$(train --nodelist=node1)
without_daemon=$(train --partition=all --nodelist=node2,node3 --ntasks=4)
without_node=$(train --partition=all --nodelist=node1,node4)
for job in $preempted $late $cancelled $without_daemon $without_node; do
  within "job $job trains" checkpoints "$job"
done
say "five runs train"

# With a limit of a minute the signal comes each time that SLURM looks, while the program starts too.
{ within "job $preempted is back" is_back "$preempted" && scontrol update "job=$preempted" TimeLimit=60; } &
raise=$!

# The daemon alone; and a whole node: the daemon, those that watch the tasks and would tell of their end, and the tasks.
kill -KILL "$(cat "$SLURM_FOLDER/node3.pid")"
mapfile -t tasks < <(grep -slzx "SLURMD_NODENAME=node4" /proc/[0-9]*/environ | grep -o '[0-9]*')
mapfile -t watchers < <(ps -o ppid= -p "${tasks[*]}" | sort -u)
kill -KILL "$(cat "$SLURM_FOLDER/node4.pid")" "${watchers[@]// /}" "${tasks[@]}"
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

for ranks in 2 4; do
  timeout $patience srun --mpi=pmix -n $ranks "$program" fit >"whole_$ranks" 2>said || give_up "$ranks ranks: $(cat said)"
done
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

for job in $without_daemon $without_node; do within "job $job is back" is_back "$job"; done
# The node was started anew, with nothing left in /tmp: the job's old folder for PMIx would be in its way.
find "$SLURM_FOLDER/node4" -mindepth 1 -delete
mkdir "$SLURM_FOLDER/node4/tmp"
for node in node3 node4; do "$SLURM_NODE" $node; done
says "train-$without_daemon.out" "Node failure on node3"
goes_on "$without_daemon" 4
is_orderly "$without_daemon" SIGTERM
says "train-$without_node.out" "Node failure on node4"
goes_on "$without_node" 2
say "without a node, and gone on"
exit $failures
