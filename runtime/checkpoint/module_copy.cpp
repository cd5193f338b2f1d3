#include "troupe/runtime/checkpoint/module_copy.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/model_state.hpp"

#include <torch/utils.h>

#include <algorithm>
#include <string>

namespace troupe {

namespace {

// With its strides: whoever looks at them sees no difference.
torch::Tensor twin_of(const torch::Tensor& tensor) {
  return tensor.defined() ? torch::empty_like(tensor.detach()).copy_(tensor.detach()) : torch::Tensor();
}

constexpr const char* own_module_advice =
    "; give the module's options instead, as in lr_find<M>(options), so that each trial has a module of its own";

void check_copyable(const Module& module) {
  try {
    check_model_storable(module);
  } catch (const UsageError& error) {
    throw UsageError("the module cannot be copied, to be put back after a trial: " + std::string(error.what()) +
                     own_module_advice);
  }
}

void give_value(torch::Tensor live, const torch::Tensor& value) {
  const bool fits = live.sizes() == value.sizes() && live.strides() == value.strides() &&
                    live.scalar_type() == value.scalar_type() && live.device() == value.device();
  if (fits) {
    live.copy_(value);
  } else {
    live.set_data(twin_of(value));
  }
}

}  // namespace

ModuleCopy::ModuleCopy(std::shared_ptr<Module> module) : module_(std::move(module)), modes_(*module_) {
  check_copyable(*module_);
  const torch::NoGradGuard no_gradients;
  for (const auto& [name, tensor] : named_model_tensors(*module_)) {
    tensors_.push_back({name, tensor, twin_of(tensor), tensor.requires_grad(), tensor.grad(), twin_of(tensor.grad())});
  }
  for (const auto& [name, metric] : module_->metrics()) {
    auto states = metric->states();
    for (auto& state : states.states) state.value = twin_of(state.value);
    metrics_.emplace_back(metric, std::move(states));
  }
}

void ModuleCopy::put_back() const {
  const auto now = named_model_tensors(*module_);
  for (std::size_t i = 0; i < std::max(now.size(), tensors_.size()); ++i) {
    const bool is_same = i < now.size() && i < tensors_.size() && now[i].first == tensors_[i].name &&
                         now[i].second.is_same(tensors_[i].live);
    if (is_same) continue;
    throw UsageError(
        "the module cannot be put back as it was: " + shown(i < now.size() ? now[i].first : tensors_[i].name) +
        " is another tensor than before, since a hook (setup?) builds it" + own_module_advice);
  }
  const torch::NoGradGuard no_gradients;
  for (const auto& kept : tensors_) {
    give_value(kept.live, kept.value);
    if (kept.live.requires_grad() != kept.requires_grad) kept.live.set_requires_grad(kept.requires_grad);
    torch::Tensor live = kept.live;
    if (kept.gradient.defined()) give_value(kept.gradient, kept.gradient_value);
    live.mutable_grad() = kept.gradient;
  }
  modes_.put_back(*module_);
  for (const auto& [metric, states] : metrics_) metric->load_states(states);
}

}  // namespace troupe
