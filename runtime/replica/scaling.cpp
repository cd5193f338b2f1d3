// The scale of 16-mixed around the backward passes of a replica: gradients carry it in there and nowhere else, so that
// hooks, clipping and steps, of one optimizer or several, have nothing to do with it.
#include "troupe/runtime/replica/replica.hpp"

#include <torch/torch.h>

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
void Replica::find_unowned_parameters() {
  unowned_.clear();
  if (!scaler_) return;
  std::unordered_set<const void*> owned;
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    for (const auto& parameter : parameters_of(i)) owned.insert(parameter.unsafeGetTensorImpl());
  }
  for (auto& parameter : module_->parameters()) {
    if (!owned.contains(parameter.unsafeGetTensorImpl())) unowned_.push_back(std::move(parameter));
  }
}

// What a pass adds to, or has added to; of the number after the last optimizer's: what is no optimizer's. With
// strategy = zero the average goes to this rank's parts; what waits for a window's last batch is in the whole
// parameters.
std::vector<torch::Tensor> Replica::gradients_in_use(std::size_t optimizer, bool is_window_open) const {
  std::vector<torch::Tensor> gradients;
  const auto add = [&](const std::vector<torch::Tensor>& parameters) {
    for (const auto& parameter : parameters) {
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    }
  };
  if (optimizer == optimizers_.size()) {
    add(unowned_);
    return gradients;
  }
  for (const auto& group : optimizers_[optimizer].param_groups()) add(group.params());
  if (optimizer < sharded_.size() && is_window_open) add(sharded_[optimizer]->parameters());
  return gradients;
}

void Replica::begin_pass(const TrainStep& step) {
  if (!scaler_) return;
  auto kept = gradients_in_use(step.optimizer, sequences_[step.optimizer].has_gradients);
  if (!unowned_.empty()) std::ranges::move(gradients_in_use(optimizers_.size(), false), std::back_inserter(kept));
  scaler_->begin_pass(kept);
}

void Replica::end_pass(const TrainStep& step) {
  if (!scaler_) return;
  scaler_->unscale(step.optimizer, gradients_in_use(step.optimizer, averager_of(step) == nullptr));
  if (!unowned_.empty()) scaler_->unscale(optimizers_.size(), gradients_in_use(optimizers_.size(), false));
}

// Nobody knows which optimizer a loss is for. Each pass is averaged by itself.
void Replica::begin_manual_pass() {
  if (!scaler_) return;
  std::vector<torch::Tensor> kept;
  std::unordered_set<const void*> seen;
  for (std::size_t i = 0; i <= optimizers_.size(); ++i) {
    for (auto& gradient : gradients_in_use(i, /*is_window_open=*/false)) {
      if (seen.insert(gradient.unsafeGetTensorImpl()).second) kept.push_back(std::move(gradient));
    }
  }
  scaler_->begin_pass(kept);
}

void Replica::end_manual_pass() {
  if (!scaler_) return;
  for (std::size_t i = 0; i <= optimizers_.size(); ++i) {
    scaler_->unscale(i, gradients_in_use(i, /*is_window_open=*/false));
  }
}

// Those of a checkpoint, which may be stepped with before another pass comes.
void Replica::inspect_gradients() {
  for (std::size_t i = 0; scaler_ && i < optimizers_.size(); ++i) {
    scaler_->inspect(i, gradients_in_use(i, /*is_window_open=*/true));
  }
}

// Whether the scale was too large for this step, which is left out then; the same on all ranks.
bool Replica::overflows(std::size_t optimizer) {
  if (!scaler_) return false;
  const auto of_all_ranks = [&](torch::Tensor& found_inf) { sharded_[optimizer]->maximum(found_inf); };
  if (optimizer < sharded_.size() ? scaler_->allows_step(optimizer, of_all_ranks) : scaler_->allows_step(optimizer)) {
    return false;
  }
  if (scaler_->current_scale() < least_scale) {
    throw std::runtime_error("the gradients of optimizer " + std::to_string(optimizer) +
                             " are not finite, however small the scale of the loss is made: the loss or the model is "
                             "not finite (trainer.precision = 16-mixed; bf16-mixed has the range of float32)");
  }
  return true;
}

}  // namespace troupe
