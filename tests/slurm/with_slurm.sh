#!/usr/bin/env bash
# Runs a command beside a SLURM of its own with N nodes, node1 to nodeN, that exists for as long as it runs: munged,
# slurmctld and N slurmds, without cgroups, all as the user who called, with files in a temporary folder.
#
#   with_slurm.sh N COMMAND [ARGUMENT...]
#
# The command finds in its environment
#
#   SLURM_CONF     with which srun, sbatch and the others reach this SLURM
#   SLURM_FOLDER   logs (slurmctld.log, node1.log), and the number of each slurmd's process (node1.pid)
#   SLURM_NODE     a program: `$SLURM_NODE node2` starts the slurmd of a node again
#
# Each node is a host of tests/hosts, a network namespace with a name of its own; the command and slurmctld are on
# node1's. Jobs get the first two nodes, and any in the partition `all`, since jobs that wait for a node hold up those
# behind them in their partition. Where namespaces are not permitted, the nodes are slurmds beside each other on this machine; whatever is left
# then ends with this script unless it is killed by SIGKILL. SLURM_TEST_BESIDE=1 asks for that.
#
# The status is the command's, or 77, which is "skipped", where SLURM is not installed or does not start.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PATH=$PATH:/usr/sbin:/sbin

skip() { echo "with_slurm: $*: skipped" >&2; exit 77; }

if [ "${1:-}" != --inside ]; then
  if [ $# -lt 2 ] || [[ ! $1 =~ ^[1-9]$ ]]; then
    echo "with_slurm.sh N COMMAND [ARGUMENT...], with N from 1 to 9" >&2
    exit 2
  fi
  for tool in munged slurmctld slurmd scontrol srun; do
    command -v "$tool" >/dev/null || skip "there is no '$tool' of Debian's packages slurm-wlm and munge"
  done
  beside=${SLURM_TEST_BESIDE:-0}
  [ "$beside" = 1 ] || "$here/../hosts/with_hosts.sh" "$1" true 2>/dev/null || beside=1
  inside=("$(readlink -f "$0")" --inside "$(id -u)" "$(id -g)" "$@")
  [ "$beside" = 1 ] || exec "$here/../hosts/with_hosts.sh" "$1" "${inside[@]}"
  exec "${inside[@]}"
fi

# --- Beside the hosts ------------------------------------------------------------------------------------------------

uid=$2 gid=$3 count=$4
shift 4
folder=$(mktemp -d)
chmod 711 "$folder"  # munged wants its socket to be in reach of everybody
export SLURM_CONF=$folder/slurm.conf SLURM_FOLDER=$folder SLURM_NODE=$folder/start_node

# Of a user who is root only in the hosts' namespace: slurmd as root changes its groups, which is not permitted there.
as_user=()
[ "$uid" -eq "$(id -u)" ] || as_user=(unshare --user --map-user="$uid" --map-group="$gid")

if [ -n "${HOSTS_ON:-}" ]; then
  controller=host1 address=10.77.0.1 ports=(6817 6818)
  nodes=()
  for ((node = 1; node <= count; ++node)); do
    nodes+=("NodeName=node$node NodeHostname=host$node NodeAddr=10.77.0.$node Port=${ports[1]} CPUs=8")
  done
  on() { local node=$1; shift; "$HOSTS_ON" "host${node#node}" "${as_user[@]}" "$@"; }
else
  controller=$(hostname -s) address=127.0.0.1
  ports=()
  while [ ${#ports[@]} -le "$count" ]; do
    port=$((20000 + RANDOM % 10000))
    [[ " ${ports[*]} " == *" $port "* ]] || (exec 3<>"/dev/tcp/$address/$port") 2>/dev/null || ports+=("$port")
  done
  nodes=()
  for ((node = 1; node <= count; ++node)); do
    nodes+=("NodeName=node$node NodeHostname=$controller NodeAddr=$address Port=${ports[node]} CPUs=8")
  done
  on() { shift; "$@"; }
fi

cat >"$SLURM_CONF" <<END
ClusterName=test
SlurmctldHost=$controller($address)
SlurmctldPort=${ports[0]}
SlurmUser=$uid
SlurmdUser=$uid
AuthType=auth/munge
# cred_expire: how long a requeued job waits before it starts again; 5 s is the least.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
# Nodes are looked at, and time limits, every 30 s, whatever is said here.
SlurmdTimeout=3
MessageTimeout=30
KillWait=10
ReturnToService=2
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdSpoolDir=$folder/%n
# What srun --mpi=pmix makes there has the same name on all nodes.
TmpFS=$folder/%n/tmp
SlurmdPidFile=$folder/%n.pid
SlurmdLogFile=$folder/%n.log
$(printf '%s\n' "${nodes[@]}")
PartitionName=first Nodes=node[1-$((count < 2 ? count : 2))] Default=YES
PartitionName=all Nodes=ALL
END

# Ends all that has the file's name in its environment, as often as there is something. Hosts end theirs themselves.
clean() {
  local each found=yes
  [ -z "${HOSTS_ON:-}" ] || found=no
  while [ $found = yes ]; do
    found=no
    for each in /proc/[0-9]*; do
      grep -qszxF "SLURM_CONF=$SLURM_CONF" "$each/environ" || continue
      found=yes
      kill -KILL "${each#/proc/}" 2>/dev/null || true
    done
  done
  rm -rf "$folder"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

{
  echo '#!/usr/bin/env bash'
  declare -f on
  declare -p as_user
  echo "on \"\$1\" slurmd -N \"\$1\""
} >"$SLURM_NODE"
chmod +x "$SLURM_NODE"

mkdir "$folder/state"
(umask 077; head -c 128 /dev/urandom >"$folder/key")
refusal=$(on node1 munged --force --origin=127.0.0.1 --num-threads=10 --key-file="$folder/key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed" 2>&1) ||
  skip "munged does not start ($refusal)"
refusal=$(on node1 slurmctld -c 2>&1) || skip "slurmctld does not start ($refusal)"
for ((node = 1; node <= count; ++node)); do
  mkdir -p "$folder/node$node/tmp"
  refusal=$("$SLURM_NODE" "node$node" 2>&1) || skip "slurmd does not start ($refusal)"
done
until=$((SECONDS + 60))
until [ "$(on node1 sinfo -h -N -p all -t idle -o %N 2>/dev/null | wc -l)" -eq "$count" ]; do
  if [ $SECONDS -ge $until ]; then
    echo "with_slurm: the nodes are not there after 60 s: $(on node1 sinfo -N 2>&1; tail -n 20 "$folder"/*.log)" >&2
    exit 1
  fi
  sleep 0.1
done

status=0
on node1 "$@" || status=$?
exit "$status"
