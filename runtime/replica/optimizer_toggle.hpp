// Takes the gradients of all optimizers but one out of the computation.
#pragma once

#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/replica_core.hpp"

#include <torch/types.h>

#include <cstddef>
#include <vector>

namespace troupe {

/// Used by the worker's thread.
class OptimizerToggle {
 public:
  OptimizerToggle(ReplicaCore& core, const GradientSync& sync) : core_(core), sync_(sync) {}

  /// Parameters that optimizer `index` does not have need no gradient from now on. Puts back what was taken out before.
  /// Throws UsageError for a number that no optimizer has.
  void toggle(std::size_t index);
  void untoggle();

 private:
  ReplicaCore& core_;
  const GradientSync& sync_;
  std::vector<torch::Tensor> toggled_;  // parameters that need no gradient for now
};

}  // namespace troupe
