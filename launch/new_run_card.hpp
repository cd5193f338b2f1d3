// The card of a run that begins.
#pragma once

#include "troupe/launch/option_group.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <string>
#include <vector>

namespace troupe {

/// With an id, the process's command line, and the options with their defaults. Passwords in addresses are left out.
RunCard new_run_card(const std::vector<OptionGroup>& groups);

}  // namespace troupe
