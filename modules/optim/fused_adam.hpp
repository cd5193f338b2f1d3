// Adam and AdamW on LibTorch's fused kernels.
#pragma once

#include <torch/optim/optimizer.h>

#include <memory>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Names and defaults are PyTorch's (https://pytorch.org/docs/stable/generated/torch.optim.Adam.html).
struct AdamOptions {
  double lr = 1e-3;                                ///< learning rate, >= 0
  std::pair<double, double> betas = {0.9, 0.999};  ///< decay of the running averages, each in [0, 1)
  double eps = 1e-8;                               ///< added to the denominator, >= 0
  double weight_decay = 0;                         ///< >= 0; added to the gradient (Adam) or to the step (AdamW)
  bool amsgrad = false;                            ///< keep the maximum of the second moment (Reddi et al. 2018)
};

/// The learning rate as LibTorch's interface wants it, so that LibTorch's schedulers work on these optimizers too.
class LearningRate : public torch::optim::OptimizerOptions {
 public:
  explicit LearningRate(double lr) : lr_(lr) {}
  std::unique_ptr<torch::optim::OptimizerOptions> clone() const override { return std::make_unique<LearningRate>(lr_); }
  double get_lr() const override { return lr_; }
  void set_lr(const double lr) override { lr_ = lr; }

 private:
  double lr_;
};

/// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) with one call of `at::_fused_adam_` or
/// `at::_fused_adamw_` a step over all parameters. Steps are those of torch.optim.Adam(fused=True). Parameters without
/// a gradient are left alone.
///
/// Touched by one thread at a time. Throws UsageError for an option outside of its range.
class FusedAdam : public torch::optim::Optimizer {
 public:
  enum class Decay { l2, decoupled };
  FusedAdam(std::vector<torch::Tensor> parameters, AdamOptions options, Decay decay);

  /// Calls `closure` first when there is one and returns its loss; gradients are enabled for it.
  torch::Tensor step(LossClosure closure = nullptr) override;

  /// Running averages and step counts, in the order of the parameters; undefined before a parameter's first step.
  struct State {
    std::vector<torch::Tensor> exp_avg, exp_avg_sq, max_exp_avg_sq, step;
  };
  const State& state_tensors() const { return state_tensors_; }
  const AdamOptions& options() const { return options_; }
  Decay decay() const { return decay_; }

  /// Goes on as the optimizer that `options` and `state` come from. Each list of `state` is as long as its parameters
  /// (with amsgrad off, max_exp_avg_sq is empty); a parameter has all of its tensors or none, like itself in shape,
  /// type and device, and `step` a float32 number there. The tensors are kept, not copied. Throws UsageError otherwise;
  /// nothing has changed then.
  void restore(const AdamOptions& options, State state);

 private:
  void make_state(std::size_t i);

  AdamOptions options_;
  Decay decay_;
  State state_tensors_;
};

/// Adam over `parameters`.
std::shared_ptr<FusedAdam> adam(std::vector<torch::Tensor> parameters, AdamOptions options = {});
/// AdamW over `parameters`; its weight decay is 0.01 unless the options say otherwise.
std::shared_ptr<FusedAdam> adamw(std::vector<torch::Tensor> parameters, AdamOptions options = {.weight_decay = 1e-2});

}  // namespace troupe::optim
