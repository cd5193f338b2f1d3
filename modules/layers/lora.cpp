#include "troupe/modules/layers/lora.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/name_patterns.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/module.hpp"

#include <torch/nn/init.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <typeinfo>

namespace troupe {

namespace {

using LayerPtr = std::shared_ptr<LoraLinearImpl>;

[[noreturn]] void refuse_lora(const std::string& why) {
  throw UsageError("lora: " + why);
}

std::vector<std::pair<std::string, LayerPtr>> adaptable(const torch::nn::Module& module) {
  std::vector<std::pair<std::string, LayerPtr>> layers;
  for (const auto& item : module.named_modules("", /*include_self=*/false)) {
    if (auto layer = std::dynamic_pointer_cast<LoraLinearImpl>(item.value())) {
      layers.emplace_back(item.key(), std::move(layer));
    }
  }
  return layers;
}

std::vector<std::pair<std::string, LayerPtr>> adapted(const torch::nn::Module& module) {
  auto layers = adaptable(module);
  std::erase_if(layers, [](const auto& layer) { return !layer.second->has_adapter(); });
  if (layers.empty()) refuse_lora("the module has no adapter; call add_lora first");
  return layers;
}

// A pattern that fits no layer that can take an adapter.
[[noreturn]] void refuse_pattern(const torch::nn::Module& module, const std::string& pattern,
                                 const std::vector<std::string>& able) {
  const std::string nearest =
      able.empty() ? "; the module has no troupe::LoraLinear, which is torch::nn::Linear with room for one"
                   : "; the nearest that can are " + names_near(pattern, able);
  for (const auto& item : module.named_modules("", /*include_self=*/false)) {
    if (!fits_pattern(item.key(), pattern)) continue;
    const auto& layer = *item.value();
    refuse_lora(shown(item.key()) + " is of the class " + full_type_name(typeid(layer)) + ", which takes no adapter" +
                nearest);
  }
  refuse_lora("no layer's name fits the pattern '" + shown(pattern) + "'" + nearest);
}

}  // namespace

LoraLinearImpl::LoraLinearImpl(const torch::nn::LinearOptions& options_in) : options(options_in) {
  LoraLinearImpl::reset();
}

void LoraLinearImpl::reset() {
  weight = register_parameter("weight", torch::empty({options.out_features(), options.in_features()}));
  if (options.bias()) {
    bias = register_parameter("bias", torch::empty({options.out_features()}));
  } else {
    bias = register_parameter("bias", {}, /*requires_grad=*/false);
  }
  reset_parameters();
  if (has_adapter()) make_adapter();
}

std::shared_ptr<torch::nn::Module> LoraLinearImpl::clone(const std::optional<torch::Device>& device) const {
  auto copy = torch::nn::Cloneable<LoraLinearImpl>::clone(device);
  const auto own = named_parameters();
  for (auto& item : copy->named_parameters()) item.value().set_requires_grad(own[item.key()].requires_grad());
  return copy;
}

// As LibTorch's linear.cpp.
void LoraLinearImpl::reset_parameters() {
  torch::nn::init::kaiming_uniform_(weight, std::sqrt(5));
  if (!bias.defined()) return;
  const auto [fan_in, fan_out] = torch::nn::init::_calculate_fan_in_and_fan_out(weight);
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  torch::nn::init::uniform_(bias, -bound, bound);
}

void LoraLinearImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha << "troupe::LoraLinear(in_features=" << options.in_features()
         << ", out_features=" << options.out_features() << ", bias=" << options.bias();
  if (has_adapter()) stream << ", r=" << r_;
  stream << ")";
}

torch::Tensor LoraLinearImpl::forward(const torch::Tensor& input) {
  const auto output = torch::linear(input, weight, bias);
  if (!has_adapter()) return output;
  if (is_merged_) {
    if (is_training() && torch::GradMode::is_enabled() && lora_a_->weight.requires_grad()) {
      refuse_lora("an adapter that is merged into its weight cannot be trained; call unmerge_lora first");
    }
    return output;
  }
  const auto x = torch::dropout(input, dropout_, is_training());
  return output + lora_b_(lora_a_(x)) * scale_;
}

void LoraLinearImpl::check_adapter(const std::string& name, const LoraOptions& o) const {
  if (has_adapter()) refuse_lora(shown(name) + " has an adapter already");
  const int64_t most = std::min(options.in_features(), options.out_features());
  if (o.r < 1 || o.r > most) {
    refuse_lora("r = " + std::to_string(o.r) + " is no rank of " + shown(name) + ", whose weight is [" +
                std::to_string(options.out_features()) + ", " + std::to_string(options.in_features()) +
                "]; the nearest is " + std::to_string(std::clamp<int64_t>(o.r, 1, most)));
  }
  if (!(o.lora_alpha > 0) || !std::isfinite(o.lora_alpha)) {
    refuse_lora("lora_alpha = " + double_to_text(o.lora_alpha) + " is not a number above 0");
  }
  if (!(o.lora_dropout >= 0 && o.lora_dropout < 1)) {
    refuse_lora("lora_dropout = " + double_to_text(o.lora_dropout) + " is not in [0, 1)");
  }
}

void LoraLinearImpl::add_adapter(const LoraOptions& o) {
  check_adapter("the layer", o);
  r_ = o.r;
  scale_ = o.lora_alpha / static_cast<double>(o.r);
  dropout_ = o.lora_dropout;
  is_merged_ = false;
  make_adapter();
}

// A begins as a linear layer does, as in peft and the paper's code, and B as zeros.
void LoraLinearImpl::make_adapter() {
  const auto without_bias = [](int64_t in, int64_t out) {
    return torch::nn::Linear(torch::nn::LinearOptions(in, out).bias(false));
  };
  lora_a_ = register_module("lora_A", without_bias(options.in_features(), r_));
  lora_b_ = register_module("lora_B", without_bias(r_, options.out_features()));
  torch::nn::init::zeros_(lora_b_->weight);
  lora_a_->to(weight.device(), weight.scalar_type());
  lora_b_->to(weight.device(), weight.scalar_type());
  lora_a_->train(is_training());
  lora_b_->train(is_training());
}

torch::Tensor LoraLinearImpl::product() const {
  return lora_b_->weight.mm(lora_a_->weight) * scale_;
}

void LoraLinearImpl::merge() {
  if (!has_adapter() || is_merged_) return;
  const torch::NoGradGuard no_gradients;
  weight.add_(product());
  is_merged_ = true;
}

void LoraLinearImpl::unmerge() {
  if (!is_merged_) return;
  const torch::NoGradGuard no_gradients;
  weight.sub_(product());
  is_merged_ = false;
}

torch::Tensor LoraLinearImpl::merged_weight() const {
  const torch::NoGradGuard no_gradients;
  return has_adapter() && !is_merged_ ? weight + product() : weight.detach().clone();
}

std::vector<torch::Tensor> LoraLinearImpl::adapter() const {
  if (!has_adapter()) return {};
  return {lora_a_->weight, lora_b_->weight};
}

std::vector<std::string> add_lora(torch::nn::Module& module, const LoraOptions& options) {
  const auto all = adaptable(module);
  std::vector<std::string> able;
  for (const auto& [name, layer] : all) able.push_back(name);
  std::set<std::string> wanted;
  for (const auto& pattern : patterns_in(options.layers)) {
    const std::size_t before =
        std::ranges::count_if(able, [&](const auto& name) { return fits_pattern(name, pattern); });
    if (before == 0) refuse_pattern(module, pattern, able);
    for (const auto& name : able) {
      if (fits_pattern(name, pattern)) wanted.insert(name);
    }
  }
  for (const auto& [name, layer] : all) {
    if (wanted.contains(name)) layer->check_adapter(name, options);
  }
  for (auto& parameter : module.parameters()) parameter.set_requires_grad(false);
  std::vector<std::string> names;
  for (const auto& [name, layer] : all) {
    if (!wanted.contains(name)) continue;
    layer->add_adapter(options);
    names.push_back(name);
  }
  // Of an earlier call, too.
  for (const auto& [name, layer] : all) {
    for (auto& parameter : layer->adapter()) parameter.set_requires_grad(true);
  }
  if (auto* own = dynamic_cast<Module*>(&module)) own->save_only_trainable = true;
  return names;
}

void merge_lora(torch::nn::Module& module) {
  for (const auto& [name, layer] : adapted(module)) layer->merge();
}

void unmerge_lora(torch::nn::Module& module) {
  for (const auto& [name, layer] : adapted(module)) layer->unmerge();
}

std::vector<std::pair<std::string, torch::Tensor>> merged_tensors(const torch::nn::Module& module) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  const auto layers = adapted(module);
  const auto is_in = [](const std::string& name, const std::string& layer) {
    return name.starts_with(layer + ".lora_A.") || name.starts_with(layer + ".lora_B.");
  };
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      const std::string& name = item.key();
      if (!item.value().defined()) continue;
      if (std::ranges::any_of(layers, [&](const auto& layer) { return is_in(name, layer.first); })) continue;
      const auto found =
          std::ranges::find_if(layers, [&](const auto& layer) { return name == layer.first + ".weight"; });
      tensors.emplace_back(name, found == layers.end() ? item.value() : found->second->merged_weight());
    }
  }
  return tensors;
}

}  // namespace troupe
