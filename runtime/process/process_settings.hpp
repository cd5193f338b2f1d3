// Settings that hold for the whole process.
#pragma once

#include "troupe/modules/options/trainer_options.hpp"

#include <c10/util/typeid.h>

namespace troupe {

/// Makes glibc's malloc keep what a training step frees for the next step. By default it gives the upper end of a heap
/// back to the system again and again, and blocks of some hundred KB at once, and each step then pays for page faults:
/// 20 of them, in an MLP of 784-128-10, made a step of 220 us 20 us longer. The process's size stays at its peak. Once
/// a process; does nothing where MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_ or GLIBC_TUNABLES is set in the
/// environment, and with another allocator. Source: mallopt(3).
void keep_freed_memory();

/// Sets `deterministic`, `detect_anomaly` and, for the true precisions, the type that new floating-point tensors have;
/// puts back what was there at the end of its life.
class ProcessSettings {
 public:
  explicit ProcessSettings(const TrainerOptions& options);
  ~ProcessSettings();
  ProcessSettings(const ProcessSettings&) = delete;
  ProcessSettings& operator=(const ProcessSettings&) = delete;

 private:
  bool was_deterministic_;
  bool warned_only_;
  bool detected_anomalies_;
  caffe2::TypeMeta default_type_;
};

}  // namespace troupe
