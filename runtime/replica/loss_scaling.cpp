#include "troupe/runtime/replica/loss_scaling.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <unordered_set>

namespace troupe {

namespace {

// Below it no loss is so large that float16 needs it; 56 steps in a row that overflow lead there.
constexpr double least_scale = 0x1p-40;

}  // namespace

// Parameters that are no optimizer's get gradients too, for user code to look at and to use.
void LossScaling::refresh() {
  unowned_.clear();
  if (!scaler_) return;
  std::unordered_set<const void*> owned;
  for (std::size_t i = 0; i < core_.optimizers.size(); ++i) {
    for (const auto& parameter : sync_.parameters_of(i)) owned.insert(parameter.unsafeGetTensorImpl());
  }
  for (auto& parameter : core_.module->parameters()) {
    if (!owned.contains(parameter.unsafeGetTensorImpl())) unowned_.push_back(std::move(parameter));
  }
}

// What a pass adds to, or has added to; of the number after the last optimizer's: what is no optimizer's. With
// strategy = zero the average goes to this rank's parts; what waits for a window's last batch is in the whole
// parameters.
std::vector<torch::Tensor> LossScaling::gradients_in_use(std::size_t optimizer, bool is_window_open) const {
  std::vector<torch::Tensor> gradients;
  const auto add = [&](const std::vector<torch::Tensor>& parameters) {
    for (const auto& parameter : parameters) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
  };
  if (optimizer == core_.optimizers.size()) {
    add(unowned_);
    return gradients;
  }
  for (const auto& group : core_.optimizers[optimizer].param_groups()) add(group.params());
  const ShardedOptimizer* sharded = sync_.sharded(optimizer);
  if (sharded && is_window_open) add(sharded->parameters());
  return gradients;
}

void LossScaling::begin_pass(std::size_t optimizer, bool is_window_open) {
  if (!scaler_) return;
  auto kept = gradients_in_use(optimizer, is_window_open);
  if (!unowned_.empty()) std::ranges::move(gradients_in_use(core_.optimizers.size(), false), std::back_inserter(kept));
  scaler_->begin_pass(kept);
}

void LossScaling::end_pass(std::size_t optimizer, bool stays) {
  if (!scaler_) return;
  scaler_->unscale(optimizer, gradients_in_use(optimizer, stays));
  if (!unowned_.empty()) scaler_->unscale(core_.optimizers.size(), gradients_in_use(core_.optimizers.size(), false));
}

void LossScaling::begin_manual_pass() {
  if (!scaler_) return;
  std::vector<torch::Tensor> kept;
  std::unordered_set<const void*> seen;
  for (std::size_t i = 0; i <= core_.optimizers.size(); ++i) {
    for (auto& gradient : gradients_in_use(i, /*is_window_open=*/false)) {
      if (seen.insert(gradient.unsafeGetTensorImpl()).second) kept.push_back(std::move(gradient));
    }
  }
  scaler_->begin_pass(kept);
}

void LossScaling::end_manual_pass() {
  if (!scaler_) return;
  for (std::size_t i = 0; i <= core_.optimizers.size(); ++i) {
    scaler_->unscale(i, gradients_in_use(i, /*is_window_open=*/false));
  }
}

void LossScaling::inspect() {
  for (std::size_t i = 0; scaler_ && i < core_.optimizers.size(); ++i) {
    scaler_->inspect(i, gradients_in_use(i, /*is_window_open=*/true));
  }
}

bool LossScaling::overflows(std::size_t optimizer) {
  if (!scaler_) return false;
  const bool is_of_one_rank = sync_.sharded(optimizer) || core_.trains_locally();  // what overflows
  const auto of_all_ranks = [&](torch::Tensor& found_inf) {
    core_.peers()->all_reduce(found_inf, c10d::ReduceOp::MAX);
  };
  if (is_of_one_rank ? scaler_->allows_step(optimizer, of_all_ranks) : scaler_->allows_step(optimizer)) return false;
  if (scaler_->current_scale() < least_scale) {
    throw std::runtime_error("the gradients of optimizer " + std::to_string(optimizer) +
                             " are not finite, however small the scale of the loss is made: the loss or the model is "
                             "not finite (trainer.precision = 16-mixed; bf16-mixed has the range of float32)");
  }
  return true;
}

}  // namespace troupe
