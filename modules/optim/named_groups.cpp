#include "troupe/modules/optim/named_groups.hpp"

#include "troupe/base/name_patterns.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/support/module_tensors.hpp"

#include <algorithm>
#include <optional>

namespace troupe::optim {

namespace {

void refuse_unmatched(const char* optimizer, const std::string& pattern, const std::vector<ModuleTensor>& all) {
  std::vector<std::string> names;
  for (const auto& each : all) names.insert(names.end(), each.names.begin(), each.names.end());
  const bool fits = std::ranges::any_of(names, [&](const auto& name) { return fits_pattern(name, pattern); });
  if (fits) return;
  throw UsageError(
      std::string(optimizer) + ": no parameter's name fits the pattern '" + shown(pattern) + "'" +
      (names.empty() ? "; the module has no parameters" : "; the nearest are " + names_near(pattern, names)));
}

bool fits_any(const ModuleTensor& parameter, const std::vector<std::string>& patterns) {
  return std::ranges::any_of(parameter.names, [&](const std::string& name) {
    return std::ranges::any_of(patterns, [&](const std::string& pattern) { return fits_pattern(name, pattern); });
  });
}

}  // namespace

std::vector<Parameters> parameters_by_name(const char* optimizer, const torch::nn::Module& module,
                                           const std::vector<std::string>& patterns) {
  const auto all = distinct_parameters(module);
  std::vector<std::vector<std::string>> single;
  for (const auto& text : patterns) {
    for (const auto& pattern : single.emplace_back(patterns_in(text))) refuse_unmatched(optimizer, pattern, all);
  }
  std::vector<Parameters> groups(patterns.size() + 1);
  for (const auto& parameter : all) {
    std::optional<std::size_t> owner;
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      if (!fits_any(parameter, single[i])) continue;
      if (owner) {
        throw UsageError(std::string(optimizer) + ": the parameter " + shown(parameter.name()) + " fits two groups, '" +
                         shown(patterns[*owner]) + "' and '" + shown(patterns[i]) + "'; it can be in one");
      }
      owner = i;
    }
    groups[owner.value_or(patterns.size())].push_back(parameter.tensor);
  }
  return groups;
}

}  // namespace troupe::optim
