#!/usr/bin/env bash
# Runs under SLURM (with_slurm.sh) that lose a node: its daemon alone, and all that is on it. Outside CI (ctest -C slow):
# SLURM itself decides, twice a minute, that a node is lost, and on a loaded machine it may be late.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[ "${1:-}" = --inside ] || exec "$here/with_slurm.sh" 4 "$0" --inside
# shellcheck source=tests/slurm/jobs.sh
source "$here/jobs.sh"

export PROGRAM_OPTIONS="--trainer.watchdog_factor 0"  # the ranks themselves would be the first to notice
without_daemon=$(train --partition=all --nodelist=node2,node3 --ntasks=4)
without_node=$(train --partition=all --nodelist=node1,node4)
for job in $without_daemon $without_node; do
  within "job $job trains" checkpoints "$job"
done
say "two runs train"

# The daemon alone; and a whole node: the daemon, those that watch the tasks and would tell of their end, and the tasks.
kill -KILL "$(cat "$SLURM_FOLDER/node3.pid")"
mapfile -t tasks < <(grep -slzx "SLURMD_NODENAME=node4" /proc/[0-9]*/environ | grep -o '[0-9]*')
mapfile -t watchers < <(ps -o ppid= -p "${tasks[*]}" | sort -u)
kill -KILL "$(cat "$SLURM_FOLDER/node4.pid")" "${watchers[@]// /}" "${tasks[@]}"
for ranks in 2 4; do trains_whole $ranks; done
say "2 and 4 ranks have trained"

for job in $without_daemon $without_node; do within "job $job is back" is_back "$job"; done
# The node was started anew, with nothing left in /tmp: the job's old folder for PMIx would be in its way.
find "$SLURM_FOLDER/node4" -mindepth 1 -delete
mkdir "$SLURM_FOLDER/node4/tmp"
for node in node3 node4; do "$SLURM_NODE" $node; done
says "train-$without_daemon.out" "Node failure on node3"
goes_on "$without_daemon" 4
is_orderly "$without_daemon" SIGTERM
says "train-$without_node.out" "Node failure on node4"
goes_on "$without_node" 2
say "without a node, and gone on"
exit $failures
