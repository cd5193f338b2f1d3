// Logs memory and processor use.
#pragma once

#include "troupe/modules/callback.hpp"

#include <cstdint>

namespace troupe {

/// Logs after training batches, as often as metrics are written (log_every_n_steps): "device/cpu_rss_mb", the
/// memory of the process, and "device/cpu_percent", its processor time (100: one core); on a GPU also
/// "device/cuda_allocated_mb" and "device/cuda_reserved_mb", of LibTorch's allocator. With several GPUs in the process
/// these are the first one's, and "device/cuda_1_allocated_mb" and so on the others'. Of several processes it is rank
/// zero's that is logged. Lightning's DeviceStatsMonitor
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.DeviceStatsMonitor.html).
class DeviceStatsMonitor : public Callback {
 public:
  void on_train_start(RunContext& run, Module& module) override;
  void on_train_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                          int64_t batch_idx) override;

 private:
  static void log_gpus(RunContext& run);
  double wall_ = 0, cpu_ = 0;  // seconds when last looked at
};

}  // namespace troupe
