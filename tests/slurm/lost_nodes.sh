#!/usr/bin/env bash
# Runs under SLURM (with_slurm.sh) that lose a node: its daemon alone, all that is on it, and the same before SLURM has
# noticed, with ranks that notice it themselves. Outside CI (ctest -C slow): SLURM itself decides, twice a minute, that a
# node is lost, and on a loaded machine it may be late.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[ "${1:-}" = --inside ] || exec "$here/with_slurm.sh" 5 "$0" --inside
# shellcheck source=tests/slurm/jobs.sh
source "$here/jobs.sh"

export PROGRAM_OPTIONS="--trainer.watchdog_factor 0"  # the ranks themselves would be the first to notice
without_daemon=$(train --partition=all --nodelist=node2,node3 --ntasks=4)
without_node=$(train --partition=all --nodelist=node1,node4)
PROGRAM_OPTIONS="--trainer.watchdog_floor 2"
noticed=$(train --partition=all --nodelist=node2,node5)
PROGRAM_OPTIONS=""
# As long as all nodes are there: SLURM keeps new jobs waiting when it does not know what has become of a node.
for ranks in 2 4; do trains_whole $ranks; done
say "2 and 4 ranks have trained"
for job in $without_daemon $without_node $noticed; do
  within "job $job trains" checkpoints "$job"
done
say "three runs train"

# A whole node: the daemon, those that watch the tasks and would tell of their end, and the tasks.
kill_node() {  # kill_node NODE
  local tasks watchers
  mapfile -t tasks < <(grep -slzx "SLURMD_NODENAME=$1" /proc/[0-9]*/environ | grep -o '[0-9]*')
  mapfile -t watchers < <(ps -o ppid= -p "${tasks[*]}" | sort -u)
  kill -KILL "$(cat "$SLURM_FOLDER/$1.pid")" "${watchers[@]// /}" "${tasks[@]}"
}
kill -KILL "$(cat "$SLURM_FOLDER/node3.pid")"
for node in node4 node5; do kill_node $node; done

for job in $without_daemon $without_node $noticed; do within "job $job is back" is_back "$job"; done
say "all are back in the queue"
# The nodes were started anew, with nothing left in /tmp: the job's old folder for PMIx would be in its way.
for node in node4 node5; do
  find "$SLURM_FOLDER/$node" -mindepth 1 -delete
  mkdir "$SLURM_FOLDER/$node/tmp"
done
for node in node3 node4 node5; do "$SLURM_NODE" $node; done
says "train-$without_daemon.out" "Node failure on node3"
goes_on "$without_daemon" 4
is_orderly "$without_daemon" SIGTERM
says "train-$without_node.out" "Node failure on node4"
goes_on "$without_node" 2
says "train-$noticed.out" "has not answered twice"  # of the ranks' watchdog
goes_on "$noticed" 2
say "without a node, and gone on"
exit $failures
