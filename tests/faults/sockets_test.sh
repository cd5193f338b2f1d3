#!/usr/bin/env bash
# Who may connect: one process listens nowhere but at attach.sock, which is its owner's; of two ranks each has as many
# other listening sockets as a bare MPI program has, which are Open MPI's. (Its tcp transport binds one to all addresses,
# whatever interface it is told to use.) And who may read: files follow the umask.
set -euo pipefail
program=$TROUPE_BUILD_DIR/tests/fault_program
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1
failures=0
fail() { echo "error: $*" >&2; failures=1; }

listeners() {  # listeners PID: protocol and local address of each listening socket but attach.sock, one a line
  ss -Htulxpn state listening state unconnected | grep -F "pid=$1," | awk '$5 !~ "/attach.sock$" { print $1, $5 }' || true
}

# held COMMAND...: starts it, waits until its program says that it is there, and calls `look` meanwhile.
held() {
  mkfifo "$folder/pipe"
  "$@" >"$folder/pipe" 2>"$folder/err" &
  local started=$!
  exec 3<"$folder/pipe"
  until read -r line <&3 && [[ $line == *"fault at "* || $line == *"there at "* ]]; do :; done
  look
  kill -KILL $(pgrep -f "$name.*$folder" || true) "$started" 2>/dev/null || true
  wait "$started" 2>/dev/null || true
  exec 3<&-
  rm "$folder/pipe"
}

# --- One process ---

name='[f]ault_program'
look() {
  local found
  found=$(listeners "$(pgrep -f "$name.*$folder")")
  [ -z "$found" ] || fail "a run of one process listens on: $found"
  found=$(stat -c '%F %a' "$folder"/one/*/version_0/attach.sock)
  [ "$found" = "socket 600" ] || fail "attach.sock is a $found"
}
umask 027
held "$program" fit --trainer.default_root_dir "$folder/one" --model.fault hung_step --trainer.watchdog_timeout 0

# --- Its files ---

files=0
while read -r mode path; do
  files=$((files + 1))
  [ "$mode" = 640 ] || fail "with umask 027 $path has mode $mode"
done < <(find "$folder/one" -type f -printf '%m %p\n')
[ "$files" -ge 3 ] || fail "the run left $files files"
while read -r mode path; do
  [ "$mode" = 750 ] || fail "with umask 027 the folder $path has mode $mode"
done < <(find "$folder/one" -type d -printf '%m %p\n')

# --- Two ranks ---

cat >"$folder/bare.c" <<'EOF'
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char** argv) {
  int given;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &given);
  MPI_Barrier(MPI_COMM_WORLD);
  printf("there at last\n");
  fflush(stdout);
  while (1) pause();
}
EOF
mpicc -o "$folder/bare_program" "$folder/bare.c"
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# The protocols of each rank's sockets, in order; the addresses go to `addresses`.
look() {
  local each
  : >"$folder/seen"
  : >"$folder/addresses"
  for each in $(pgrep -f "^[^ ]*$name.*$folder"); do
    listeners "$each" >>"$folder/addresses"
    listeners "$each" | awk '{ print $1 }' | sort | tr '\n' ' ' >>"$folder/seen"
    echo >>"$folder/seen"
  done
}
control=(--mca oob_tcp_if_include lo)
[[ $(mpirun --version) == *"(Open MPI) 4."* ]] || control=()  # 5 does not start so
# compare MCA...: the run with a bare program, both with these settings of Open MPI's.
compare() {
  name='bare_[p]rogram'
  held mpirun -n 2 --oversubscribe "${control[@]}" "$@" "$folder/bare_program" "$folder"
  cp "$folder/seen" "$folder/expected"
  [ "$(wc -l <"$folder/expected")" -eq 2 ] || fail "the bare program has $(wc -l <"$folder/expected") ranks"
  name='fault_[p]rogram'
  held mpirun -n 2 --oversubscribe "${control[@]}" "$@" "$program" fit \
    --trainer.default_root_dir "$folder/two" --model.fault hung_step --trainer.watchdog_timeout 0
  [ "$(wc -l <"$folder/seen")" -eq 2 ] || fail "the run has $(wc -l <"$folder/seen") ranks"
  cmp -s "$folder/expected" "$folder/seen" ||
    fail "a bare MPI program listens on '$(cat "$folder/expected")', the run on '$(cat "$folder/seen")'"
}
compare --mca btl self,tcp --mca btl_tcp_if_include lo
grep -q '^tcp ' "$folder/addresses" || fail "Open MPI's own socket was not seen"

# Over shared memory, as on one host, there is none that somebody else could reach.
compare --mca btl self,vader
elsewhere=$(grep -vE '^(tcp|udp) (127\.|\[::1\])|^u_' "$folder/addresses" || true)
[ -z "$elsewhere" ] || fail "a rank listens on: $elsewhere"
exit "$failures"
