#include "troupe/runtime/process_settings.hpp"

#include <ATen/Context.h>
#include <torch/csrc/autograd/anomaly_mode.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <array>
#include <cstdlib>

namespace troupe {

void keep_freed_memory() {
#ifdef __GLIBC__
  static const bool done = [] {
    constexpr std::array chosen_by_user = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"};
    if (std::ranges::any_of(chosen_by_user, [](const char* name) { return std::getenv(name) != nullptr; })) return true;
    constexpr int most_that_malloc_takes = 32 << 20;
    mallopt(M_MMAP_THRESHOLD, most_that_malloc_takes);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    return true;
  }();
  (void)done;
#endif
}

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
