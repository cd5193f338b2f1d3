// Parameter groups by patterns of names.
#pragma once

#include "troupe/modules/optim/kernel_optimizer.hpp"

#include <torch/nn/module.h>

#include <string>
#include <utility>
#include <vector>

namespace troupe::optim {

/// Options of the parameters whose names fit a pattern: `Options` is one of the group structs, without its `params`.
/// Several patterns are separated by '|'; the whole name has to fit, with `*` for any text, dots included, and `?` for
/// one character.
///
///     return optim::adamw(*this, {{"*.bias|*norm*", {.weight_decay = 0}}}, {.lr = 3e-4});
template <class Options>
struct NamedGroup {
  std::string pattern;
  Options options = {};
};
template <class Options>
using NamedGroups = std::vector<NamedGroup<Options>>;

/// The parameters of the module that fit each text of patterns, and behind them those that fit none, each parameter
/// once. Throws UsageError, beginning with the name of the optimizer, for a pattern that no parameter's name fits, with
/// the nearest names, and for a parameter that two of the texts claim.
std::vector<Parameters> parameters_by_name(const char* optimizer, const torch::nn::Module& module,
                                           const std::vector<std::string>& patterns);

/// The groups of such parameters; those that fit no pattern are the last group, with the optimizer's options.
template <class Options>
std::vector<Options> groups_by_name(const char* optimizer, const torch::nn::Module& module,
                                    NamedGroups<Options> named) {
  std::vector<std::string> patterns;
  for (const auto& each : named) patterns.push_back(each.pattern);
  auto parameters = parameters_by_name(optimizer, module, patterns);
  std::vector<Options> groups;
  for (auto& each : named) groups.push_back(std::move(each.options));
  if (groups.empty() || !parameters.back().empty()) groups.emplace_back();
  for (std::size_t i = 0; i < groups.size(); ++i) groups[i].params = std::move(parameters[i]);
  return groups;
}

}  // namespace troupe::optim
