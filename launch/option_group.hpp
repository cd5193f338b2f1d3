// The options of several objects under one roof: --trainer.X, --model.X, --data.X.
#pragma once

#include "troupe/modules/options/options.hpp"
#include "troupe/modules/options/trainer_options.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Options that share the first part of their name. Refers to the object it was made from, which must outlive it and
/// stay where it is.
struct OptionGroup {
  std::string name;
  std::vector<OptionRef> options;
  nlohmann::json defaults;  ///< the values of an object that nobody has changed, as a JSON object
  std::string list = {};    ///< in files it is one of the tables of this list, [[callbacks]]; empty: a table, [trainer]
};

/// `option_group("model", options)` makes `--model.lr` out of the member `lr`.
template <Described T>
OptionGroup option_group(std::string name, T& object) {
  T untouched{};
  return {std::move(name), option_refs(object), to_json_object(untouched)};
}

/// The Trainer's own groups: trainer, and those of the loggers. Refer to `options`.
std::vector<OptionGroup> trainer_groups(TrainerOptions& options);

/// An option and the name of its group.
struct GroupedOption {
  std::string group;
  OptionRef option;
};

/// The option called `name` ("model.lr"). Throws UsageError "unknown option --model.lrr; did you mean --model.lr?",
/// where `prefix` ("--" or nothing) stands before each name and `others` are further names to suggest.
GroupedOption find_grouped_option(const std::vector<OptionGroup>& groups, const std::string& name,
                                  const std::string& prefix, const std::vector<std::string>& others);

}  // namespace troupe
