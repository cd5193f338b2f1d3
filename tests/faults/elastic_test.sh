#!/usr/bin/env bash
# Ranks are killed, and those that are left go on (trainer.elastic): with the very bits of a run of as many ranks that
# was resumed from that state, within moments, and with status 0. Needs a build with Open MPI 5 (else it is skipped).
#
#   elastic_test.sh [KILLS]     each rank of three in turn, then two at once; KILLS more at random moments (default: 0)
set -euo pipefail
kills=${1:-0}
program=$TROUPE_BUILD_DIR/tests/kill_program
if ! grep -q 'openmpi-5' <<<"$(ldd "$program")"; then
  echo "skipped: this build is not with Open MPI 5 (launch/setup --mpi 5.0.11, cmake --preset openmpi-5)"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export KILL_PROGRAM_KEEPS_ALL=yes OMP_NUM_THREADS=1  # as many as those have that are left
# Steps that take long enough to be met in the middle, whatever the machine does besides.
options=(--model.pause 5 --trainer.max_epochs 8 --trainer.val_check_interval 10)
fail() { echo "error: $*" >&2; cat "$folder/err" >&2; exit 1; }

# The process of RANK that trains below ROOT.
process_of() {  # process_of ROOT RANK [PROGRAM]
  local each
  for each in $(pgrep -x "${3:-kill_program}"); do
    if grep -qzxF "$1" "/proc/$each/cmdline" 2>/dev/null &&
      grep -qzxF "OMPI_COMM_WORLD_RANK=$2" "/proc/$each/environ" 2>/dev/null; then echo "$each"; fi
  done
}

wait_for() {  # wait_for SECONDS COMMAND...: until it succeeds
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $until ] || return 1
    read -rt 0.02 <> <(:) || true
  done
}

# A file of step N or later is there: the run is that far.
is_at_step() {  # is_at_step ROOT N
  local file
  for file in "$1"/*/version_*/checkpoints/*step=*.safetensors; do
    [ -e "$file" ] || return 1
    file=${file##*step=}
    [ "${file%%[!0-9]*}" -lt "$2" ] || return 0
  done
  return 1
}

spares=0  # behind the ranks that train
try() {  # try NAME RANKS LEAST STEP KILLED...: kills these ranks when the run is at STEP
  local name=$1 ranks=$2 least=$3 step=$4 root=$folder/$1 run rank victims=() left=$(($2 + spares - ($# - 4)))
  [ "$left" -le "$ranks" ] || left=$ranks
  shift 4
  "$TROUPE_SOURCE_DIR/launch/run" -n $((ranks + spares)) "$program" fit --trainer.default_root_dir "$root" "${options[@]}" \
    --trainer.elastic "$least:$ranks" --trainer.elastic_every_n_steps 4 >"$folder/found" 2>"$folder/err" &
  run=$!
  wait_for 60 is_at_step "$root" 4 || fail "$name: the run does not come to step 4"
  for rank in "$@"; do victims+=("$(process_of "$root" "$rank")"); done
  wait_for 60 is_at_step "$root" "$step" || fail "$name: the run does not come to step $step"
  kill -KILL "${victims[@]}" || fail "$name: there are no processes of the ranks $*"
  wait "$run" || fail "$name: the run has not come to its end (status $?)"
  grep -qE "(is|are) lost: $left (goes|go) on from" "$folder/err" || fail "$name: nobody says that ranks are lost"
  # The last recovery's state, from which a run of as many ranks has to come to the same end.
  local at file
  at=$(sed -nE 's/.*(go|goes) on from step ([0-9]+)[ ,].*/\2/p' "$folder/err" | tail -n 1)
  [ -n "$at" ] || fail "$name: it does not say from which step"
  file=$(echo "$root"/*/version_*/checkpoints/*step="$at".safetensors)
  "$TROUPE_SOURCE_DIR/launch/run" -n "$left" "$program" fit --trainer.default_root_dir "$root.again" --ckpt_path "$file" "${options[@]}" \
    >"$folder/expected" 2>"$folder/err_again" || fail "$name: a run does not go on from $file: $(cat "$folder/err_again")"
  [ "$(wc -l <"$folder/expected")" -ge 4 ] || fail "$name: it printed: $(cat "$folder/expected")"
  sed -i 's/^\[rank [0-9]*\] //' "$folder/found"  # of who is rank zero now
  cmp -s "$folder/expected" "$folder/found" || fail "$name: other bits: $(diff "$folder/expected" "$folder/found")"
  echo "$name: $(grep -oE '(go|goes) on from.*' "$folder/err" | tail -n 1)"
}

try rank_1 3 1 20 1
try rank_2 3 1 30 2
try rank_0 3 1 20 0
try two_at_once 3 1 20 1 2
# One that waits takes the place of one that is lost, whichever that is.
spares=1
try spare_for_rank_1 2 1 20 1
grep -q '2 go on from step [0-9]*, with a spare (' "$folder/err" || fail "spare_for_rank_1: the spare is not called up"
try spare_for_rank_0 2 1 20 0
try fewer_than_spares 3 1 20 1 2
spares=0
for ((i = 0; i < kills; ++i)); do try "random_$i" 3 1 $((RANDOM % 40 + 8)) $((RANDOM % 3)); done

# Who attaches to the run finds the new rank zero in the place of the one that is lost, whose socket is left over.
socket_of() { stat -c %i "$folder"/attached/*/version_0/attach.sock; }
stops() {
  echo "stop it is enough" | "$TROUPE_BUILD_DIR/bin/troupe" attach "$(dirname "$folder"/attached/*/version_0/attach.sock)" \
    --control --once >"$folder/seen" 2>&1
}
"$TROUPE_SOURCE_DIR/launch/run" -n 3 "$program" fit --trainer.default_root_dir "$folder/attached" "${options[@]}" \
  --trainer.max_epochs 1000 --trainer.elastic 1:3 --trainer.attach control >"$folder/found" 2>"$folder/err" &
run=$!
wait_for 60 is_at_step "$folder/attached" 8 || fail "attached: the run does not come to step 8"
kill -KILL "$(process_of "$folder/attached" 0)"
wait_for 60 grep -q ': 2 go on from' "$folder/err" || fail "attached: nobody says that a rank is lost"
wait_for 60 stops || fail "attached: nobody is there to attach to: $(cat "$folder/seen")"
wait "$run" || fail "attached: the run has not come to its end (status $?)"
grep -q "the run stops after this batch" "$folder/seen" || fail "attached: $(cat "$folder/seen")"
grep -q "stopped: asked for by a viewer (pid [0-9]*): it is enough" "$folder/err" || fail "attached: it does not stop"
! socket_of 2>/dev/null || fail "attached: a socket is left"

# One that hangs is given up by its own watchdog, and one that throws ends all.
fault() {  # fault NAME OPTION...: of the fault program, on rank 2 of 3
  "$TROUPE_SOURCE_DIR/launch/run" -n 3 "$TROUPE_BUILD_DIR/tests/fault_program" fit --trainer.default_root_dir "$folder/$1" \
    --model.rank 2 --model.fault "$1" --trainer.elastic 1:3 --trainer.elastic_every_n_steps 2 "${@:2}" \
    >"$folder/found" 2>"$folder/err"
}
fault hung_step --trainer.watchdog_timeout 2 || fail "hung_step: the run has not come to its end (status $?)"
grep -q "2 go on from step" "$folder/err" || fail "hung_step: nobody says that it is lost"
! fault step || fail "step: it ended well"
grep -q "step is out of luck" "$folder/err" || fail "step: it does not say why"

# What a spare throws once it is called up is told to all, and ends them.
"$TROUPE_SOURCE_DIR/launch/run" -n 3 "$TROUPE_BUILD_DIR/tests/fault_program" fit --trainer.default_root_dir "$folder/late" \
  --trainer.max_epochs 1000 --model.rank 1 --model.epoch 300 --model.fault step --trainer.elastic 1:2 \
  >"$folder/found" 2>"$folder/err" &
run=$!
wait_for 60 is_at_step "$folder/late" 8 || fail "late: the run does not come to step 8"
kill -KILL "$(process_of "$folder/late" 1 fault_program)"
wait_for 60 grep -q ', with a spare (' "$folder/err" || fail "late: the spare is not called up"
! wait "$run" || fail "late: it ended well"
! grep -q '1 goes on from' "$folder/err" || fail "late: what a spare throws is taken for a loss"
grep -q '^fault_program: step is out of luck (in training_step, stage fit, epoch 300, batch 2, rank 1 on ' "$folder/err" || fail "late: rank zero is not told"

# A spare that is lost is not missed.
"$TROUPE_SOURCE_DIR/launch/run" -n 3 "$program" fit --trainer.default_root_dir "$folder/unused" --trainer.elastic 1:2 \
  "${options[@]}" >"$folder/found" 2>"$folder/err" &
run=$!
wait_for 60 is_at_step "$folder/unused" 8 || fail "unused: the run does not come to step 8"
kill -KILL "$(process_of "$folder/unused" 2)"
wait "$run" || fail "unused: the run has not come to its end (status $?)"
grep -q 'process 2 on .* is lost, and the run is complete' "$folder/err" || fail "unused: nobody says that it is lost"
"$TROUPE_SOURCE_DIR/launch/run" -n 2 "$program" fit --trainer.default_root_dir "$folder/plain" "${options[@]}" \
  >"$folder/expected" 2>"$folder/err_again" || fail "unused: $(cat "$folder/err_again")"
cmp -s "$folder/expected" "$folder/found" || fail "unused: other bits: $(diff "$folder/expected" "$folder/found")"

# The spares that are left know nothing of the training.
"$TROUPE_SOURCE_DIR/launch/run" -n 3 "$program" fit --trainer.default_root_dir "$folder/spares" --trainer.elastic 1:2 \
  "${options[@]}" >"$folder/found" 2>"$folder/err" &
run=$!
wait_for 60 is_at_step "$folder/spares" 8 || fail "spares: the run does not come to step 8"
mapfile -t victims < <(process_of "$folder/spares" 0; process_of "$folder/spares" 1)
kill -KILL "${victims[@]}"
! wait "$run" || fail "spares: it ended well"
grep -q 'the spares do not have their state: start again with --ckpt_path last' "$folder/err" || fail "spares: it does not say why"

# Too few are left.
"$TROUPE_SOURCE_DIR/launch/run" -n 2 "$program" fit --trainer.default_root_dir "$folder/few" --trainer.elastic 2:2 \
  "${options[@]}" >"$folder/found" 2>"$folder/err" &
run=$!
wait_for 60 is_at_step "$folder/few" 8 || fail "few: the run does not come to step 8"
kill -KILL "$(process_of "$folder/few" 1)"
! wait "$run" || fail "few: it ended well"
grep -q 'which is less than trainer.elastic = "2:2" allows' "$folder/err" || fail "few: it does not say why"
echo "all well"
