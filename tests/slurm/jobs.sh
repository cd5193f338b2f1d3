# What the tests of SLURM share: sourced on a node, within with_slurm.sh. The scripts are those of examples/slurm.
# shellcheck shell=bash
scripts=$TROUPE_SOURCE_DIR/examples/slurm
patience=90  # seconds for whatever has to happen
failures=0  # the status of who sources this
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1  # the nodes have the same cores

# shellcheck disable=SC2034
fail() { echo "error: $*" >&2; failures=1; }
give_up() { fail "$@"; tail -n 20 "$SLURM_FOLDER"/*.log >&2; exit 1; }

# The first part of a run takes its time, so that something can happen to it: more than half a minute.
program=$SLURM_FOLDER/program
cat >"$program" <<END
#!/usr/bin/env bash
pause=0
[ -z "\${SLOW:-}" ] || [ -n "\${SLURM_RESTART_COUNT:-}" ] || pause=\$((40 * SLURM_STEP_NUM_TASKS))
exec "$TROUPE_BUILD_DIR/tests/kill_program" "\$@" \${PROGRAM_OPTIONS:-} --model.pause \$pause --trainer.val_check_interval 10 --trainer.max_epochs 20
END
chmod +x "$program"
mkdir "$SLURM_FOLDER/jobs"
cd "$SLURM_FOLDER/jobs" || exit

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
is_back() { [[ $(field "$1" Restarts) =~ ^[1-9] ]]; }  # a controller that is busy may say nothing

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

trains_whole() {  # trains_whole RANKS: the run that nobody disturbs
  timeout $patience srun --mpi=pmix -n "$1" "$program" fit >"whole_$1" 2>said || give_up "$1 ranks: $(cat said)"
}

say() { echo "$SECONDS s: $*"; }

SECONDS=0
