// The card of a run that begins.
#pragma once

#include "troupe/launch/option_group.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace troupe {

/// The values of options, by group: {"trainer": {"max_epochs": 5}}. Passwords in addresses are left out.
nlohmann::json option_values(const std::vector<OptionGroup>& groups);

/// With an id, the process's command line without passwords, and the options with their defaults.
RunCard new_run_card(const std::vector<OptionGroup>& groups);

}  // namespace troupe
