#!/usr/bin/env bash
# Runs a command beside N hosts that exist for as long as it runs: network namespaces named host1 to hostN, each with a
# name of its own, with two networks between them.
#
#   with_hosts.sh N COMMAND [ARGUMENT...]
#
# The command finds in its environment
#
#   HOSTS_ON     a program: `$HOSTS_ON host2 COMMAND ARGUMENT...` runs a command on a host
#   HOSTS_AGENT  a program that takes what ssh takes, `$HOSTS_AGENT host2 WORD...`, for --mca plm_rsh_agent
#
# and the networks at the switch where it runs itself: host 2's eth0 (10.77.0.2) ends there as host2-eth0, its eth1
# (10.77.1.2) as host2-eth1. `ip link set host2-eth1 down` pulls the plug, and a queue of tc's on host2-eth1 slows what
# host2 receives. Names are those of 10.77.0.x.
#
# Host and command live in a namespace of processes: whatever they leave behind ends with this script, however it ends.
# Users other than root get the rights in a namespace of users. The status is the command's, or 77, which is
# "skipped", where namespaces are not permitted.
set -euo pipefail

skip() { echo "with_hosts: $*: skipped" >&2; exit 77; }

if [ "${1:-}" != --inside ]; then
  if [ $# -lt 2 ] || [[ ! $1 =~ ^[1-9]$ ]]; then
    echo "with_hosts.sh N COMMAND [ARGUMENT...], with N from 1 to 9" >&2
    exit 2
  fi
  PATH=$PATH:/usr/sbin:/sbin
  for tool in ip tc unshare nsenter; do
    command -v "$tool" >/dev/null || skip "there is no '$tool' of Debian's packages iproute2 and util-linux"
  done
  spaces=(--net --mount --pid --mount-proc --fork --kill-child)
  [ "$(id -u)" -eq 0 ] || spaces+=(--user --map-root-user)
  refusal=$(unshare "${spaces[@]}" true 2>&1) || skip "namespaces are not permitted here ($refusal)"
  # In the place of this shell: --kill-child tells the namespace when the process that is here now ends.
  exec unshare "${spaces[@]}" "$0" --inside "$@"
fi

# --- Process 1 of the namespaces -------------------------------------------------------------------------------------

trap 'exit 130' INT TERM  # process 1 gets no signal that it has no handler for
count=$2
shift 2
folder=$(mktemp -d)
mount -t tmpfs hosts "$folder"
trap 'umount --lazy "$folder"; rmdir "$folder"' EXIT
mount -t tmpfs hosts /dev/shm  # what killed processes leave there, and in TMPDIR, goes with the hosts
export HOSTS_ON=$folder/on HOSTS_AGENT=$folder/agent TMPDIR=$folder

cat >"$HOSTS_ON" <<END
#!/bin/sh
host=\$1
shift
exec nsenter --net=$folder/\$host.net --uts=$folder/\$host.uts "\$@"
END
# As with ssh: the command holds none of the caller's files open, and its end gets through where the link is up alone.
cat >"$HOSTS_AGENT" <<END
#!/usr/bin/env bash
host=\$1
shift
while IFS= read -r line; do printf '%s\n' "\$line"; done < <(exec $HOSTS_ON "\$host" sh -c "\$*" 2>&1)
wait \$!
status=\$?
$HOSTS_ON "\$host" ip link show eth0 | grep -q LOWER_UP || exec sleep infinity
exit \$status
END
chmod +x "$HOSTS_ON" "$HOSTS_AGENT"

# No name is looked up elsewhere.
{
  echo "127.0.0.1 localhost"
  for ((host = 1; host <= count; ++host)); do echo "10.77.0.$host host$host"; done
} >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts

for network in 0 1; do
  refusal=$(ip link add "network$network" type bridge 2>&1) || skip "this kernel has no bridges ($refusal)"
  ip link set "network$network" up
done
for ((host = 1; host <= count; ++host)); do
  touch "$folder/host$host.net" "$folder/host$host.uts"
  unshare --net="$folder/host$host.net" true
  unshare --uts="$folder/host$host.uts" hostname "host$host"
  "$HOSTS_ON" "host$host" ip link set lo up
  for network in 0 1; do
    plug=host$host-eth$network
    refusal=$(ip link add "$plug" type veth peer name "eth$network" netns "$folder/host$host.net" 2>&1) ||
      skip "this kernel has no pairs of network devices ($refusal)"
    ip link set "$plug" master "network$network" up
    "$HOSTS_ON" "host$host" ip address add "10.77.$network.$host/24" dev "eth$network"
    "$HOSTS_ON" "host$host" ip link set "eth$network" up
  done
done

status=0
"$@" || status=$?
exit "$status"
