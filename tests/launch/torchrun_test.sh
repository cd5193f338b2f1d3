#!/usr/bin/env bash
# Whole runs of processes that torchrun started: its store is all that they have between them.
set -euo pipefail
python=$TROUPE_TORCH_ROOT/../../../../bin/python
program=$TROUPE_BUILD_DIR/tests/ddp_ranks_test
failures=0

fail() { echo "error: $*" >&2; failures=1; }

torchrun() {  # torchrun PROCESSES ARGUMENT...
  local processes=$1
  shift
  OMP_NUM_THREADS=1 timeout 120 "$python" -m torch.distributed.run --standalone --nproc-per-node "$processes" \
    --no-python "$program" "$@" 2>&1
}

said=$(torchrun 2 --gtest_filter='Ranks.Train*:Ranks.ThatDivide*:Ranks.Evaluate*:Ranks.AllStop*:Ranks.OfTwo*') ||
  fail "two processes ended with $?: $said"
[ "$(grep -c '\[  PASSED  \] 5 tests' <<<"$said")" -eq 2 ] || fail "not all passed: $said"

status=0
said=$(torchrun 3 --gtest_also_run_disabled_tests --gtest_filter=Faults.DISABLED_Exception) || status=$?
[ "$status" -ne 0 ] || fail "a rank failed, and the status is 0"
[ "$status" -ne 124 ] || fail "a rank failed, and the others went on"
grep -q "out of luck (in training_step, stage fit, epoch 1, batch 2, rank 1 on " <<<"$said" ||
  fail "the cause is missing: $said"

refused() {  # refused TEXT VARIABLE=VALUE...
  local text=$1 said
  shift
  said=$(env "$@" "$program" --gtest_filter='Ranks.Train*' 2>&1) && fail "'$*' was accepted"
  grep -qF -- "$text" <<<"$said" || fail "'$*' did not say '$text', but: $said"
}
refused "RANK is 2, which is no rank among 2" RANK=2 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=29500
refused "no MASTER_ADDR" RANK=0 WORLD_SIZE=2 MASTER_PORT=29500
exit $failures
