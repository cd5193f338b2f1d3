#include "troupe/runtime/replica/batch_transfer.hpp"

#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/precision/convert.hpp"

#include <algorithm>

namespace troupe {

bool is_transfer(Hook hook) {
  return std::ranges::find(hook_order::transfer, hook) != hook_order::transfer.end();
}

bool overrides_transfer(const ReplicaCore& core) {
  return std::ranges::any_of(hook_order::transfer, [&](Hook hook) { return core.is_used_transfer(hook); });
}

Batch move_batch(const ReplicaCore& core, Batch batch, Hook hook, int64_t dataloader_idx) {
  const bool of_data = core.setup.datamodule.overrides(hook);
  const bool is_own = core.is_used_transfer(hook);
  enter_phase(is_own ? id_of(of_data ? data_owner : module_owner, hook) : id_of(Phase::transfer));
  const auto move = [&](auto& owner) {
    switch (hook) {
      case Hook::on_before_batch_transfer: return owner.on_before_batch_transfer(std::move(batch), dataloader_idx);
      case Hook::transfer_batch_to_device:
        return owner.transfer_batch_to_device(std::move(batch), core.setup.device, dataloader_idx);
      default: return owner.on_after_batch_transfer(std::move(batch), dataloader_idx);
    }
  };
  return of_data ? move(*core.setup.datamodule.get()) : move(*core.module);
}

Batch in_parameter_type(const ReplicaCore& core, Batch batch) {
  enter_phase(Phase::transfer);
  return with_floating_type(std::move(batch), parameter_type(core.precision));
}

}  // namespace troupe
