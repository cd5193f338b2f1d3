#!/usr/bin/env bash
# Signals: a checkpoint that the next start goes on from, the status, both ranks together, SLURM's queue, a second
# Ctrl-C, and those that report a write which cannot be.
set -euo pipefail
program=$TROUPE_BUILD_DIR/tests/fault_program
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
failures=0
twice=no  # a signal is sent
fail() { echo "error: $*" >&2; failures=1; }

mkdir "$folder/bin"
cat >"$folder/bin/scontrol" <<'EOF'
#!/usr/bin/env bash
kill -TERM $$  # as SLURM does to all that belongs to a job that is requeued
kill -USR1 $$
ls "$ROOT"/*/version_*/checkpoints >/dev/null && echo "$*" >>"$ROOT/scontrol"
exit "${SCONTROL_STATUS:-0}"
EOF
chmod +x "$folder/bin/scontrol"

pids() { pgrep -f "[f]ault_program.*$1 " || true; }

# Waits until the signal is no longer pending: two that are would count as one. In the shell itself, since the run ends
# within milliseconds.
is_taken() {  # is_taken SIGNAL PROCESS
  local name value bit
  bit=$(($(kill -l "$1") - 1))
  while true; do
    while read -r name value && [ "$name" != ShdPnd: ]; do :; done 2>/dev/null <"/proc/$2/status" || return 0
    (((16#${value:-0} >> bit) & 1)) || return 0
  done
}

# signalled ROOT SIGNAL [OPTION...]: a run without end that gets the signal in its second epoch, on its last process; the
# status in `status`, what it said in ROOT/said.
signalled() {
  local root=$1 signal=$2 started last
  shift 2
  mkdir -p "$root"
  mkfifo "$root/pipe"
  # Behind env, since a shell's background jobs ignore SIGINT.
  ROOT=$root env --default-signal=INT $launcher "$program" fit --ckpt_path auto --trainer.default_root_dir "$root" \
    --model.fault signal --trainer.max_epochs -1 "$@" >"$root/pipe" 2>"$root/said" &
  started=$!
  exec 3<"$root/pipe"
  until read -r line <&3 && [[ $line == *"ready at "* ]]; do :; done
  last=$(pids "$root" | tail -n 1)
  kill "-$signal" "$last"
  [ "$twice" = no ] || { is_taken "$signal" "$last" && kill "-$signal" "$last" 2>/dev/null || true; }
  status=0
  wait "$started" || status=$?
  exec 3<&-
}

goes_on() {  # goes_on ROOT: from its checkpoint, to the end
  $launcher "$program" fit --ckpt_path auto --trainer.default_root_dir "$1" >"$1/next" 2>&1 ||
    fail "after the signal it does not go on: $(cat "$1/next")"
}

launcher=""
signalled "$folder/term" TERM
[ "$status" -eq 143 ] || fail "after SIGTERM the status is $status: $(cat "$folder/term/said")"
grep -q "stopped: interrupted by SIGTERM" "$folder/term/said" || fail "it said: $(cat "$folder/term/said")"
[ -n "$(find "$folder/term" -name last.safetensors)" ] || fail "there is no checkpoint after SIGTERM"
goes_on "$folder/term"

signalled "$folder/int" INT
[ "$status" -eq 130 ] || fail "after SIGINT the status is $status: $(cat "$folder/int/said")"

# A shell has the same status for a program that the signal has killed, so what it said counts too.
ends_orderly() {  # ends_orderly SIGNAL STATUS, once or twice
  local root=$folder/$1_$twice
  signalled "$root" "$1"
  [ "$status" -eq "$2" ] || fail "after SIG$1 the status is $status: $(cat "$root/said")"
  grep -q "stopped: interrupted by SIG$1" "$root/said" || fail "after SIG$1 it said: $(cat "$root/said")"
  [ -n "$(find "$root" -name last.safetensors)" ] || fail "there is no checkpoint after SIG$1"
  goes_on "$root"
}
ends_orderly HUP 129
ends_orderly USR2 140
ends_orderly XCPU 152

# A terminal that closes says so more than once, and so does the limit of CPU time; and what is ignored stays so.
twice=yes
ends_orderly HUP 129
ends_orderly XCPU 152
twice=no
launcher="env --ignore-signal=HUP"
signalled "$folder/nohup" HUP --trainer.max_epochs 3
[ "$status" -eq 0 ] || fail "SIGHUP was ignored, and the status is $status: $(cat "$folder/nohup/said")"
launcher=""

# Whoever read the output has ended: the run has not.
for reader in stdout stderr; do
  root=$folder/no_$reader
  case $reader in
    stdout) wanted="--model.fault signal" ;;  # it says where it is
    stderr) wanted="--trainer.enable_model_summary true --trainer.enable_progress_bar true" ;;
  esac
  {
    exec 4>"$folder/unread"
    if [ "$reader" = stdout ]; then exec 2>&4; else exec 2>&1 >&4; fi
    status=0
    "$program" fit --trainer.default_root_dir "$root" $wanted || status=$?
    echo "$status" >"$folder/status"
  } | head -c 1 >/dev/null
  [ "$(cat "$folder/status")" -eq 0 ] || fail "nobody reads $reader, and the status is $(cat "$folder/status")"
  [ -n "$(find "$root" -name last.safetensors)" ] || fail "nobody reads $reader, and there is no checkpoint"
done

# A limit on the size of files is a write that fails: the run ends with the cause, or goes on, and nothing is left over.
too_large() { (ulimit -f 4; exec "$program" fit --trainer.default_root_dir "$folder/large" --trainer.logger false "$@" >/dev/null 2>"$folder/said"); }
status=0
too_large || status=$?
[ "$status" -eq 1 ] || fail "files may be no larger than 4 KiB, and the status is $status"
grep -q "cannot write '.*': File too large" "$folder/said" || fail "it said: $(cat "$folder/said")"
[ -z "$(find "$folder/large" -name '*.tmp')" ] || fail "temporary files are left: $(find "$folder/large" -name '*.tmp')"
status=0
too_large --trainer.checkpoint_failure continue || status=$?
[ "$status" -eq 0 ] || fail "checkpoint_failure = continue, and the status is $status: $(cat "$folder/said")"

# A program that starts keeps the signal for its training, which ends at once, with a checkpoint.
early() {  # early ROOT
  status=0
  mkdir -p "$1"
  ROOT=$1 $launcher "$program" fit --ckpt_path auto --trainer.default_root_dir "$1" --model.fault early_signal \
    --trainer.max_epochs -1 >"$1/said" 2>&1 || status=$?
  [ "$status" -eq 143 ] || fail "after a SIGUSR1 at the start the status is $status: $(cat "$1/said")"
  grep -q "stopped: interrupted by SIGUSR1" "$1/said" || fail "it said: $(cat "$1/said")"
  [ -n "$(find "$1" -name last.safetensors)" ] || fail "there is no checkpoint after a SIGUSR1 at the start"
  goes_on "$1"
}
early "$folder/early"

# A job of SLURM goes back into the queue.
export PATH=$folder/bin:$PATH
export SLURM_JOB_ID=123
signalled "$folder/queue" USR1
[ "$status" -eq 143 ] || fail "after SIGUSR1 the status is $status: $(cat "$folder/queue/said")"
[ "$(cat "$folder/queue/scontrol" 2>&1)" = "requeue 123" ] || fail "scontrol got: $(cat "$folder/queue/scontrol" 2>&1)"
goes_on "$folder/queue"
early "$folder/early_queue"
[ "$(cat "$folder/early_queue/scontrol" 2>&1)" = "requeue 123" ] || fail "a job that has just begun is not requeued"
SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=5 signalled "$folder/array" USR1
[ "$(cat "$folder/array/scontrol" 2>&1)" = "requeue 77_5" ] || fail "scontrol got: $(cat "$folder/array/scontrol" 2>&1)"
signalled "$folder/not" USR1 --trainer.slurm_requeue false
[ ! -e "$folder/not/scontrol" ] || fail "slurm_requeue = false, and the job was requeued"
signalled "$folder/ended" TERM
[ ! -e "$folder/ended/scontrol" ] || fail "SIGTERM ends a job, and it was requeued"
SCONTROL_STATUS=1 signalled "$folder/refused" USR1
grep -q "warning: the job 123 is not requeued" "$folder/refused/said" || fail "it said: $(cat "$folder/refused/said")"
# At the time limit SLURM sends SIGTERM to the job and to its step.
twice=yes
ends_orderly TERM 143
twice=no
unset SLURM_JOB_ID

# One of two ranks gets it, both write and end.
launcher="$TROUPE_SOURCE_DIR/tests/mpirun.sh 2"
signalled "$folder/ranks" USR1
[ "$status" -eq 143 ] || fail "after SIGUSR1 on one rank the status is $status: $(cat "$folder/ranks/said")"
[ -n "$(find "$folder/ranks" -name last.safetensors)" ] || fail "two ranks left no checkpoint"
goes_on "$folder/ranks"
early "$folder/early_ranks"
launcher=""

# A step that hangs does not keep a second Ctrl-C.
mkdir "$folder/twice"
mkfifo "$folder/twice/pipe"
(exec env --default-signal=INT "$program" fit --trainer.default_root_dir "$folder/twice" --model.fault hung_step \
  >"$folder/twice/pipe" 2>"$folder/twice/said") &
started=$!
exec 3<"$folder/twice/pipe"
until read -r line <&3 && [[ $line == "fault at "* ]]; do :; done
one=$(pids "$folder/twice")
kill -INT "$one"
# The first one has been taken when the handler is gone: bit 1 of the mask of caught signals.
until (((16#$(sed -n 's/^SigCgt:\t//p' "/proc/$one/status") & 2) == 0)); do :; done
kill -INT "$one"
status=0
wait "$started" || status=$?
[ "$status" -eq 130 ] || fail "after a second SIGINT the status is $status"
exit "$failures"
