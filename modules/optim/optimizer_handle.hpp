// An optimizer as a module with manual optimization uses it.
#pragma once

#include <torch/optim/optimizer.h>

#include <cstddef>
#include <functional>
#include <utility>

namespace troupe {

class RunContext;

/// Runs training_step and backward again and returns the loss; the first call in an optimizer step returns the loss
/// that is there already. Optimizers such as LBFGS call it several times.
using OptimizerClosure = std::function<torch::Tensor()>;

/// One of Module::optimizers(): what Lightning calls a LightningOptimizer. step() counts global_step, runs
/// on_before_optimizer_step and takes care of the precision; everything else is the optimizer's own, through `->`.
/// Valid during the run.
class OptimizerHandle {
 public:
  OptimizerHandle(RunContext& run, std::size_t index) : run_(&run), index_(index) {}

  torch::optim::Optimizer& operator*() const;
  torch::optim::Optimizer* operator->() const { return &**this; }
  /// Its place among those of configure_optimizers.
  std::size_t index() const { return index_; }

  /// Sets the gradients of its parameters to none.
  void zero_grad() const;
  /// Applies the gradients. With a closure (LBFGS): one that clears gradients, calls manual_backward and returns the
  /// loss.
  void step() const;
  void step(const OptimizerClosure& closure) const;

  /// While it lives, parameters of the other optimizers need no gradient.
  class Toggled {
   public:
    explicit Toggled(const OptimizerHandle& handle);
    ~Toggled();
    Toggled(const Toggled&) = delete;
    Toggled& operator=(const Toggled&) = delete;

   private:
    RunContext* run_;
    std::size_t index_;
  };
  /// `const auto toggled = generator.toggle_model();` until the end of the scope.
  [[nodiscard]] Toggled toggle_model() const { return Toggled(*this); }

 private:
  RunContext* run_;
  std::size_t index_;
};

}  // namespace troupe
