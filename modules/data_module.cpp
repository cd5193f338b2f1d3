#include "troupe/modules/data_module.hpp"

#include "troupe/modules/module.hpp"

namespace troupe {

Batch DataModule::on_before_batch_transfer(Batch batch, int64_t dataloader_idx) {
  return module_ ? module_->on_before_batch_transfer(std::move(batch), dataloader_idx) : batch;
}

Batch DataModule::transfer_batch_to_device(Batch batch, torch::Device device, int64_t dataloader_idx) {
  return module_ ? module_->transfer_batch_to_device(std::move(batch), device, dataloader_idx)
                 : batch.to(device, /*non_blocking=*/true);
}

Batch DataModule::on_after_batch_transfer(Batch batch, int64_t dataloader_idx) {
  return module_ ? module_->on_after_batch_transfer(std::move(batch), dataloader_idx) : batch;
}

RunContext& DataModule::trainer() const {
  if (!run_) throw UsageError("trainer() was called outside of a run: the data module is attached to one in its hooks");
  return *run_;
}

}  // namespace troupe
