#!/usr/bin/env bash
# Memory stays flat over many steps with validation, logging and checkpoints: on one rank and on two.
#
#   soak_test.sh [STEPS [PER_CENT]]     default: 3000 steps and 1 %; the figures in docs/reliability.md are of 20000
#
# What is resident after a tenth of the steps is about 380 MB. 1 % of it is 1.4 kB lost in each of the other 2700 steps,
# and 200 bytes in each of 18000: about a message.
set -euo pipefail
case ${TROUPE_CXX_FLAGS:-} in
  *address*) echo "the address sanitizer keeps what is freed, so memory grows"; exit 77 ;;
esac
steps=${1:-3000}
limit=${2:-1}
program=$TROUPE_BUILD_DIR/tests/soak_program
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1

soak() {  # soak NAME COMMAND...
  local name=$1 said growth
  shift
  said=$("$@" "$program" fit --trainer.max_steps "$steps" --trainer.default_root_dir "$folder/$name" 2>"$folder/err" |
    grep -o 'resident KiB.*') || { cat "$folder/err" >&2; exit 1; }
  echo "$name: $said"
  growth=${said##* }
  awk -v growth="$growth" -v limit="$limit" 'BEGIN { exit !(growth < limit) }' ||
    { echo "error: $name grows by $growth %, and $limit % are allowed" >&2; exit 1; }
}

soak one_rank env
soak two_ranks "$TROUPE_SOURCE_DIR/tests/mpirun.sh" 2
