// Settings of LibTorch's that hold for the whole process, for the time of a run.
#pragma once

#include "troupe/modules/trainer_options.hpp"

namespace troupe {

/// Sets `deterministic` and `detect_anomaly`, and puts back what was there at the end of its life.
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
};

}  // namespace troupe
