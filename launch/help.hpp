// The text behind --help.
#pragma once

#include "troupe/launch/option_group.hpp"

#include <string>
#include <vector>

namespace troupe {

/// Usage first, then the general options, then each group's with their present values as defaults.
std::string help_text(const std::string& program, const std::vector<OptionGroup>& groups);

}  // namespace troupe
