#include "troupe/runtime/replica/hook_program.hpp"

#include "troupe/runtime/replica/batch_transfer.hpp"

namespace troupe {

namespace {

bool is_core(Hook hook) {
  switch (hook) {
    case Hook::training_step:
    case Hook::optimizer_zero_grad:
    case Hook::backward:
    case Hook::optimizer_step:
    case Hook::validation_step:
    case Hook::test_step:
    case Hook::predict_step: return true;
    default: return false;
  }
}

}  // namespace

HookProgram compile_program(const ReplicaCore& core, std::span<const Hook> table) {
  HookProgram program;
  for (const Hook hook : table) {
    // Batches of a CPU run are where they belong; for a GPU the worker copies them ahead, unless a transfer hook is
    // overridden.
    const bool moves =
        hook == Hook::transfer_batch_to_device && !core.setup.device.is_cpu() && overrides_transfer(core);
    const bool called = !core.batch_callbacks.empty() && !is_transfer(hook);
    const bool own = is_transfer(hook) ? core.is_used_transfer(hook) : core.is_used(hook);
    if (is_core(hook) || own || moves || called) program.push_back(hook);
  }
  return program;
}

}  // namespace troupe
