#include "troupe/runtime/process_settings.hpp"

#include <ATen/Context.h>
#include <torch/csrc/autograd/anomaly_mode.h>

namespace troupe {

ProcessSettings::ProcessSettings(const TrainerOptions& options)
    : was_deterministic_(at::globalContext().deterministicAlgorithms()),
      warned_only_(at::globalContext().deterministicAlgorithmsWarnOnly()),
      detected_anomalies_(torch::autograd::AnomalyMode::is_enabled()) {
  if (options.deterministic) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  if (options.detect_anomaly) torch::autograd::AnomalyMode::set_enabled(true);
}

ProcessSettings::~ProcessSettings() {
  at::globalContext().setDeterministicAlgorithms(was_deterministic_, warned_only_);
  torch::autograd::AnomalyMode::set_enabled(detected_anomalies_);
}

}  // namespace troupe
