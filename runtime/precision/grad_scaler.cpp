#include "troupe/runtime/precision/grad_scaler.hpp"

#include "troupe/modules/drop_gradients.hpp"
#include "troupe/modules/failure.hpp"
#include "troupe/modules/number_text.hpp"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <torch/torch.h>

#include <limits>
#include <map>
#include <string>
#include <vector>

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

}  // namespace

GradScaler::GradScaler(torch::Device device, GradScalerOptions options) : options_(options) {
  check(options_);
  scale_ = torch::full({}, options_.init_scale, torch::TensorOptions(torch::kFloat32).device(device));
  growth_tracker_ = torch::zeros({}, torch::TensorOptions(torch::kInt32).device(device));
}

torch::Tensor GradScaler::scale(const torch::Tensor& loss) const {
  return loss * scale_;
}

void GradScaler::unscale(torch::optim::Optimizer& optimizer, const std::function<void(torch::Tensor&)>& agree) {
  const auto [entry, is_new] = found_inf_.try_emplace(&optimizer);
  if (!is_new) return;
  const torch::NoGradGuard no_gradients;
  entry->second = torch::zeros({}, scale_.options());
  // In float64: the reciprocal of a float32 scale may not be exact.
  const auto inverse = scale_.to(torch::kFloat64).reciprocal().to(torch::kFloat32);
  std::map<torch::ScalarType, std::vector<torch::Tensor>> by_type;
  for (const auto& group : optimizer.param_groups()) {
    for (const auto& parameter : group.params()) {
      const auto gradient = gradient_values(parameter);
      if (!gradient.defined()) continue;
      if (gradient.scalar_type() == torch::kFloat16) {
        throw UsageError("GradScaler: a gradient is in float16; mixed precision needs parameters in float32");
      }
      by_type[gradient.scalar_type()].push_back(gradient);
    }
  }
  for (auto& [type, gradients] : by_type) {
    at::_amp_foreach_non_finite_check_and_unscale_(gradients, entry->second, inverse);
  }
  if (agree) agree(entry->second);
}

bool GradScaler::step(torch::optim::Optimizer& optimizer, const std::function<void()>& apply) {
  unscale(optimizer);
  if (found_inf_.at(&optimizer).item<float>() != 0) {
    skipped_steps_ += 1;
    return false;
  }
  apply();
  return true;
}

void GradScaler::update() {
  if (found_inf_.empty()) return;
  const torch::NoGradGuard no_gradients;
  torch::Tensor found;
  for (const auto& [optimizer, found_inf] : found_inf_) found = found.defined() ? found + found_inf : found_inf;
  at::_amp_update_scale_(scale_, growth_tracker_, found, options_.growth_factor, options_.backoff_factor,
                         options_.growth_interval);
  found_inf_.clear();
}

nlohmann::json GradScaler::state_dict() const {
  return {{"scale", current_scale()},
          {"growth_factor", options_.growth_factor},
          {"backoff_factor", options_.backoff_factor},
          {"growth_interval", options_.growth_interval},
          {"_growth_tracker", growth_tracker_.item<int32_t>()},
          {"skipped_steps", skipped_steps_}};
}

void GradScaler::load_state_dict(const nlohmann::json& state) {
  const auto at = [&](const char* key) -> const nlohmann::json& {
    const auto found = state.is_object() ? state.find(key) : state.end();
    if (!state.is_object() || found == state.end() || !found->is_number()) {
      throw UsageError(std::string("the checkpoint's state of the gradient scaler is damaged: ") + key +
                       " is not a number");
    }
    return *found;
  };
  const auto count = [&](const char* key, int64_t most) {
    const auto& value = at(key);
    if (!value.is_number_integer() || value.get<double>() < 0 || value.get<double>() > static_cast<double>(most)) {
      throw UsageError(std::string("the checkpoint's state of the gradient scaler is damaged: ") + key +
                       " is not a count");
    }
    return value.get<int64_t>();
  };
  constexpr int64_t most_steps = int64_t{1} << 53;
  GradScalerOptions options{.init_scale = at("scale").get<double>(),
                            .growth_factor = at("growth_factor").get<double>(),
                            .backoff_factor = at("backoff_factor").get<double>(),
                            .growth_interval = count("growth_interval", most_steps)};
  const auto tracker = count("_growth_tracker", std::numeric_limits<int32_t>::max());
  const auto skipped = count("skipped_steps", most_steps);
  check(options);
  options_ = options;
  scale_.fill_(options.init_scale);
  growth_tracker_.fill_(tracker);
  skipped_steps_ = skipped;
  found_inf_.clear();
}

}  // namespace troupe
