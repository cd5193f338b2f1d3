#include "troupe/runtime/process/process_settings.hpp"

#include "troupe/modules/options/precision.hpp"

#include <ATen/Context.h>
#include <c10/core/DefaultDtype.h>
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
      detected_anomalies_(torch::autograd::AnomalyMode::is_enabled()),
      default_type_(c10::get_default_dtype()) {
  if (options.deterministic) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  if (options.detect_anomaly) torch::autograd::AnomalyMode::set_enabled(true);
  const auto type = parameter_type(options.precision);
  if (type != torch::kFloat32) c10::set_default_dtype(c10::scalarTypeToTypeMeta(type));
}

ProcessSettings::~ProcessSettings() {
  at::globalContext().setDeterministicAlgorithms(was_deterministic_, warned_only_);
  torch::autograd::AnomalyMode::set_enabled(detected_anomalies_);
  c10::set_default_dtype(default_type_);
}

}  // namespace troupe
