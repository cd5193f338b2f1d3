#include "troupe/runtime/precision/grad_scaler.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/state_reader.hpp"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_set>

namespace troupe {

namespace {

void require(bool fits, const char* name, double value, const char* range) {
  if (!fits) throw UsageError(std::string("GradScaler: ") + name + " = " + double_to_text(value) + " is not " + range);
}

void check(const GradScalerOptions& options) {
  constexpr double most = std::numeric_limits<float>::max();
  require(options.init_scale > 0 && options.init_scale <= most, "scale", options.init_scale, "a positive float32");
  require(options.growth_factor > 1 && options.growth_factor <= most, "growth_factor", options.growth_factor,
          "above 1");
  require(options.backoff_factor > 0 && options.backoff_factor < 1, "backoff_factor", options.backoff_factor,
          "in (0, 1)");
  require(options.growth_interval >= 1, "growth_interval", static_cast<double>(options.growth_interval), "1 or more");
}

// What is multiplied: a sparse gradient is linear in its values, whether each row is there once or not.
torch::Tensor elements_of(const torch::Tensor& gradient) {
  return gradient.is_sparse() ? gradient._values() : gradient;
}

}  // namespace

GradScaler::GradScaler(torch::Device device, GradScalerOptions options) : options_(options) {
  check(options_);
  scale_ = torch::full({}, options_.init_scale, torch::TensorOptions(torch::kFloat32).device(device));
  growth_tracker_ = torch::zeros({}, torch::TensorOptions(torch::kInt32).device(device));
}

torch::Tensor GradScaler::scale(const torch::Tensor& loss) const {
  return loss * scale_;
}

void GradScaler::begin_pass(at::TensorList kept) {
  adapt();
  divided_.clear();
  const torch::NoGradGuard no_gradients;
  std::vector<torch::Tensor> elements;
  for (const auto& gradient : kept) elements.push_back(elements_of(gradient));
  if (!elements.empty()) at::_foreach_mul_(elements, scale_);
}

// Multiplies by `factor`, and adds to what was found of the optimizer.
void GradScaler::divide(std::size_t optimizer, const std::vector<torch::Tensor>& gradients,
                        const torch::Tensor& factor) {
  std::map<torch::ScalarType, std::vector<torch::Tensor>> by_type;
  for (const auto& gradient : gradients) by_type[gradient.scalar_type()].push_back(elements_of(gradient));
  if (by_type.contains(torch::kFloat16)) {
    throw UsageError("GradScaler: a gradient is in float16; mixed precision needs parameters in float32");
  }
  auto& found_inf = found_inf_[optimizer];
  for (auto& [type, same] : by_type) at::_amp_foreach_non_finite_check_and_unscale_(same, found_inf, factor);
}

void GradScaler::unscale(std::size_t optimizer, std::vector<torch::Tensor> gradients) {
  const torch::NoGradGuard no_gradients;
  found_inf_[optimizer] = torch::zeros({}, scale_.options());
  std::vector<torch::Tensor> shared;
  if (!divided_.empty()) {
    const std::unordered_set<const void*> done(divided_.begin(), divided_.end());
    std::erase_if(gradients, [&](const torch::Tensor& gradient) {
      if (!done.contains(gradient.unsafeGetTensorImpl())) return false;
      shared.push_back(gradient);
      return true;
    });
  }
  // In float64: the reciprocal of a float32 scale may not be exact.
  divide(optimizer, gradients, scale_.to(torch::kFloat64).reciprocal().to(torch::kFloat32));
  if (!shared.empty()) divide(optimizer, shared, torch::ones_like(scale_));
  for (const auto& gradient : gradients) divided_.push_back(gradient.unsafeGetTensorImpl());
}

void GradScaler::inspect(std::size_t optimizer, const std::vector<torch::Tensor>& gradients) {
  const torch::NoGradGuard no_gradients;
  found_inf_[optimizer] = torch::zeros({}, scale_.options());
  divide(optimizer, gradients, torch::ones_like(scale_));
}

bool GradScaler::allows_step(std::size_t optimizer, const std::function<void(torch::Tensor&)>& agree) {
  const auto found = found_inf_.find(optimizer);
  if (found == found_inf_.end()) return true;  // no pass came before
  const torch::NoGradGuard no_gradients;
  if (agree) agree(found->second);
  pending_ = pending_.defined() ? pending_ + found->second : found->second;
  const bool is_finite = found->second.item<float>() == 0;
  if (!is_finite) skipped_steps_ += 1;
  return is_finite;
}

void GradScaler::adapt() {
  if (!pending_.defined()) return;
  const torch::NoGradGuard no_gradients;
  at::_amp_update_scale_(scale_, growth_tracker_, pending_, options_.growth_factor, options_.backoff_factor,
                         options_.growth_interval);
  pending_.reset();
}

double GradScaler::current_scale() {
  adapt();
  return scale_.item<double>();
}

nlohmann::json GradScaler::state_dict() {
  return {{"scale", current_scale()},
          {"growth_factor", options_.growth_factor},
          {"backoff_factor", options_.backoff_factor},
          {"growth_interval", options_.growth_interval},
          {"_growth_tracker", growth_tracker_.item<int32_t>()},
          {"skipped_steps", skipped_steps_}};
}

void GradScaler::load_state_dict(const nlohmann::json& state) {
  const StateReader reader(state, "the checkpoint's state of the gradient scaler");
  GradScalerOptions options{.init_scale = reader.number("scale"),
                            .growth_factor = reader.number("growth_factor"),
                            .backoff_factor = reader.number("backoff_factor"),
                            .growth_interval = reader.count("growth_interval")};
  const auto tracker = reader.count("_growth_tracker", 0, std::numeric_limits<int32_t>::max());
  const auto skipped = reader.count("skipped_steps");
  check(options);
  options_ = options;
  scale_.fill_(options.init_scale);
  growth_tracker_.fill_(tracker);
  skipped_steps_ = skipped;
  found_inf_.clear();
  pending_.reset();
}

}  // namespace troupe
