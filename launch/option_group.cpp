#include "troupe/launch/option_group.hpp"

#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

namespace troupe {
namespace {

/// The full name whose option is called as `name` is after its last point ("lr" and "mdoel.lr" for "model.lr").
std::string same_option_elsewhere(const std::vector<OptionGroup>& groups, const std::string& name,
                                  const std::vector<std::string>& others) {
  const std::string last = name.substr(name.rfind('.') + 1);
  std::vector<std::string> matches;
  for (const auto& group : groups) {
    for (const auto& option : group.options) {
      if (option.name == last) matches.push_back(group.name + "." + last);
    }
  }
  for (const auto& other : others) {
    if (other == last) matches.push_back(other);
  }
  return nearest(name, matches);
}

}  // namespace

GroupedOption find_grouped_option(const std::vector<OptionGroup>& groups, const std::string& name,
                                  const std::string& prefix, const std::vector<std::string>& others) {
  std::vector<std::string> names = others;
  for (const auto& group : groups) {
    for (const auto& option : group.options) {
      names.push_back(group.name + "." + std::string(option.name));
      if (names.back() == name) return {group.name, option};
    }
  }
  std::string suggestion = same_option_elsewhere(groups, name, others);
  if (suggestion.empty()) suggestion = nearest(name, names);
  throw UsageError("unknown option " + prefix + shown(name) +
                   (suggestion.empty() ? "; there are no options" : "; did you mean " + prefix + suggestion + "?"));
}

std::vector<OptionGroup> trainer_groups(TrainerOptions& options) {
  return {option_group("trainer", options), option_group("mlflow", options.mlflow),
          option_group("trackio", options.trackio)};
}

}  // namespace troupe
