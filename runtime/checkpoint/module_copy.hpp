// A module's state in memory, to be put back.
#pragma once

#include "troupe/modules/metrics/metric.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/support/module_modes.hpp"

#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// What of a module a run changes: parameters and buffers with their devices and types, gradients, what needs them,
/// modes, the states of metrics. Members of other kinds are the user's, and nobody else can copy them. Used by the
/// thread that owns the module.
class ModuleCopy {
 public:
  /// Throws UsageError with the name of a parameter or buffer that cannot be copied (check_model_storable).
  explicit ModuleCopy(std::shared_ptr<Module> module);

  /// Everything as it was when this was made, to the bit. Throws UsageError, and puts nothing back, if the module has
  /// other parameters and buffers now.
  void put_back() const;

 private:
  struct Kept {
    std::string name;
    torch::Tensor live, value;
    bool requires_grad;
    torch::Tensor gradient, gradient_value;
  };

  std::shared_ptr<Module> module_;
  std::vector<Kept> tensors_;
  ModuleModes modes_;
  std::vector<std::pair<std::shared_ptr<Metric>, MetricStates>> metrics_;
};

}  // namespace troupe
