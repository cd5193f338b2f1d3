#!/usr/bin/env bash
# A disk that is too small for the checkpoints of a run, one that fills up, and one that cannot be written to any more:
# real ones, in a mount namespace of their own. The run goes on or ends as checkpoint_failure says, what was written
# before stays valid, and the next start goes on from it to the bits of the run that had no trouble.
set -euo pipefail
if [ "${1:-}" != inside ]; then
  own=(unshare -m)
  [ "$(id -u)" -eq 0 ] || own=(unshare -Urm)
  "${own[@]}" true 2>/dev/null || { echo "skipped: mount namespaces are not permitted here"; exit 77; }
  exec "${own[@]}" "$0" inside
fi
program=$TROUPE_BUILD_DIR/tests/kill_program
folder=$(mktemp -d)
disk=$folder/disk
mkdir "$disk"
mount -t tmpfs -o size=64m none "$disk" 2>/dev/null || { echo "skipped: mounts are not permitted here"; exit 77; }
running=
trap '[ -z "$running" ] || kill "$running" 2>/dev/null || :; umount --lazy "$disk"; rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1 KILL_PROGRAM_CHECKPOINTS=$disk/checkpoints
checkpoints=$KILL_PROGRAM_CHECKPOINTS
continue_it=(--trainer.checkpoint_failure continue)
failures=0
case=
fail() { echo "error: $case: $*" >&2; failures=1; }

begin() {  # begin [OPTION...]: its numbers in `found`, the rest in `said`
  "$program" fit --trainer.default_root_dir "$folder" "$@" >"$folder/found" 2>"$folder/said" &
  running=$!
}
end() { status=0; wait "$running" || status=$?; running=; }
start() { begin "$@"; end; }
ends_with() { [ "$status" -eq "$1" ] || fail "it ends with $status: $(tail -n 5 "$folder/said")"; }
has_the_bits() { cmp -s "$folder/expected" "$folder/found" || fail "other numbers: $(cat "$folder/found")"; }
says() { grep -qF -- "$1" "$folder/said" || fail "it does not say '$1', but: $(tail -n 5 "$folder/said")"; }
says_nothing_of() { ! grep -qF -- "$1" "$folder/said" || fail "it says: $(grep -F -- "$1" "$folder/said")"; }
resize() { mount -o "remount,size=$1" "$disk"; }
tidy() { rm -rf "$checkpoints" "$folder/mixed" "$disk/filler"; }

count_files() { find "$checkpoints" -type f 2>/dev/null | wc -l; }
is_running() { kill -0 "$running" 2>/dev/null; }

# Two of the best and "last", all of them whole, and nothing else; where names could not be removed, with one more.
is_in_order() {  # is_in_order [MORE]
  local file count
  count=$(count_files)
  [ "$count" -eq 3 ] || [ "$count" -eq $((3 + ${1:-0})) ] || fail "there are: $(find "$checkpoints" -type f)"
  for file in "$checkpoints"/*; do
    "$program" validate --trainer.default_root_dir "$folder/validated" --trainer.logger false --ckpt_path "$file" \
      >/dev/null 2>"$folder/invalid" || fail "$file is not valid: $(tail -n 1 "$folder/invalid")"
  done
}
goes_on() {  # goes_on [MORE]: the next start
  start --ckpt_path auto
  ends_with 0
  has_the_bits
  says_nothing_of "passed over"
  is_in_order "$@"
  [ -z "$(find "$folder" -name '*.tmp')" ] || fail "temporary files are left: $(find "$folder" -name '*.tmp')"
}

# The moment of the fault: three files are there, and most of the run is to come.
until_saved() { while is_running && [ "$(count_files)" -lt 3 ]; do sleep 0.005; done; }
until_said() { grep -qF -m 1 -- "$1" < <(tail -n +1 -f --pid="$running" "$folder/said") || fail "it never says '$1'"; }
# The kernel refuses as long as a file is being written.
make_read_only() { while ! mount -o remount,ro "$disk" 2>/dev/null; do is_running || return 0; done; }
make_writable() { mount -o remount,rw "$disk"; }
# A file of so many bytes, which there may be place for only when a temporary file is gone.
fill() {
  local filler=$disk/filler left
  : >"$filler"
  while is_running; do
    left=$(($1 - $(stat -c %s "$filler")))
    [ "$left" -gt 0 ] || break
    head -c "$left" /dev/zero 2>/dev/null >>"$filler" || sleep 0.001
  done
}

case="without trouble"
start
[ "$status" -eq 0 ] || { cat "$folder/said" >&2; exit 1; }
cp "$folder/found" "$folder/expected"
is_in_order
one=$(($(stat -c %s "$checkpoints/last.safetensors") / 1024))  # KiB

# Three files fit and a fourth does not: the second "last" fails in the middle of its bytes, and so does what follows.
resize $((one * 7 / 2))k
case="too small a disk, continue"
tidy
start "${continue_it[@]}"
ends_with 0
has_the_bits
says "warning: a checkpoint is missing, and the run goes on: cannot write '$checkpoints/.troupe-"
says "No space left on device"
is_in_order
[ -e "$checkpoints/epoch=0-step=4.safetensors" ] || fail "the former ones are gone: $(ls "$checkpoints")"
case="too small a disk, continue, and there is space again"
resize 64m
goes_on

case="too small a disk, stop"
tidy
resize $((one * 7 / 2))k
start
ends_with 1
says "cannot write '$checkpoints/.troupe-"
says "No space left on device"
is_in_order
case="too small a disk, stop, and there is space again"
resize 64m
goes_on

for option in stop continue; do
  case="a disk that fills up, $option"
  tidy
  resize $((one * 16))k
  begin --trainer.checkpoint_failure "$option"
  until_saved
  fill $((one * 1024 * 25 / 2))  # place is left for half a file
  until_said "No space left on device"
  [ "$option" = stop ] || rm "$disk/filler"
  end
  rm -f "$disk/filler"
  if [ "$option" = stop ]; then
    ends_with 1
  else
    ends_with 0
    has_the_bits
    says "warning: a checkpoint is missing, and the run goes on"
  fi
  is_in_order
  goes_on
done

for option in stop continue; do
  case="a disk that becomes read-only, $option"
  tidy
  resize 64m
  begin --trainer.checkpoint_failure "$option"
  until_saved
  make_read_only
  until_said "Read-only file system"
  [ "$option" = continue ] || end
  make_writable
  [ "$option" = stop ] || end
  if [ "$option" = stop ]; then
    ends_with 1
  else
    ends_with 0
    has_the_bits
    says "warning: a checkpoint is missing, and the run goes on"
  fi
  goes_on 1
done

# What cannot be written is refused before the training, not after an epoch.
case="a disk that is read-only from the start"
mount -o remount,ro "$disk"
start --ckpt_path auto
ends_with 1
says "cannot write to dirpath = '$checkpoints': Read-only file system"
[ ! -s "$folder/found" ] || fail "it has trained: $(cat "$folder/found")"
exit "$failures"
