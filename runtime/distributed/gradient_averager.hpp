// How the gradients of an optimizer's parameters become those of all workers.
#pragma once

#include <torch/types.h>

namespace troupe {

/// One for each optimizer of a worker, used by the worker's thread; its calls are collective. Without prepare() before
/// a backward pass the gradients stay this worker's own.
class GradientAverager {
 public:
  virtual ~GradientAverager() = default;
  /// Before the forward pass of a step whose gradients are to be averaged.
  virtual void begin() {}
  /// After it, before loss.backward().
  virtual void prepare(const torch::Tensor& loss) = 0;
  /// After loss.backward(): the averages are there when it returns.
  virtual void finish() {}
  /// For a worker that has no loss in a step of the others, in place of a backward pass: adds nothing, and gets the
  /// average.
  virtual void contribute_nothing() = 0;
};

}  // namespace troupe
