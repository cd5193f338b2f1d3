#!/usr/bin/env bash
# Runs under SLURM (with_slurm.sh) that lose a node: its daemon alone, all that is on it, and the same before SLURM has
# noticed, with ranks that notice it themselves. Outside CI (ctest -C slow): SLURM itself decides, twice a minute, that a
# node is lost, and on a loaded machine it may be late.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[ "${1:-}" = --inside ] || exec "$here/with_slurm.sh" 5 "$0" --inside
# shellcheck source=tests/slurm/jobs.sh
source "$here/jobs.sh"

patience=180  # the controller may take a minute and more to give up what it says to a lost node

# A whole node: the daemon, those that watch the tasks and would tell of their end, and the tasks.
kill_node() {  # kill_node NODE
  local tasks watchers
  mapfile -t tasks < <(grep -slzx "SLURMD_NODENAME=$1" /proc/[0-9]*/environ | grep -o '[0-9]*')
  mapfile -t watchers < <(ps -o ppid= -p "${tasks[*]}" | sort -u)
  kill -KILL "$(cat "$SLURM_FOLDER/$1.pid")" "${watchers[@]// /}" "${tasks[@]}"
}
# Started anew, with nothing left in /tmp: a job's old folder for PMIx would be in its way.
restart_node() {  # restart_node NODE
  find "$SLURM_FOLDER/$1" -mindepth 1 -delete
  mkdir "$SLURM_FOLDER/$1/tmp"
  "$SLURM_NODE" "$1"
}

# With all nodes there: SLURM keeps new jobs waiting when it does not know what has become of a node.
export PROGRAM_OPTIONS=""
for ranks in 2 4; do trains_whole $ranks; done
say "2 and 4 ranks have trained"

# The ranks notice it themselves, most likely before SLURM does.
PROGRAM_OPTIONS="--trainer.watchdog_floor 2"
noticed=$(train --partition=all --nodelist=node2,node5)
within "job $noticed trains" checkpoints "$noticed"
kill_node node5
within "job $noticed is back" is_back "$noticed"
restart_node node5
says "train-$noticed.out" "has not answered twice|Node failure on node5"
goes_on "$noticed" 2
say "without a node that the ranks miss, and gone on"

PROGRAM_OPTIONS="--trainer.watchdog_factor 0"  # the ranks themselves would be the first to notice
without_daemon=$(train --partition=all --nodelist=node2,node3 --ntasks=4)
without_node=$(train --partition=all --nodelist=node1,node4)
for job in $without_daemon $without_node; do
  within "job $job trains" checkpoints "$job"
done
say "two runs train"
kill -KILL "$(cat "$SLURM_FOLDER/node3.pid")"
kill_node node4
for job in $without_daemon $without_node; do within "job $job is back" is_back "$job"; done
restart_node node4
"$SLURM_NODE" node3
says "train-$without_daemon.out" "Node failure on node3"
goes_on "$without_daemon" 4
is_orderly "$without_daemon" SIGTERM
says "train-$without_node.out" "Node failure on node4"
goes_on "$without_node" 2
say "without a node, and gone on"
exit $failures
