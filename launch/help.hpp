// The text behind --help.
#pragma once

#include "troupe/launch/option_group.hpp"

#include <string>
#include <vector>

namespace troupe {

/// Usage first, then the general options, then parts by name if `with_parts`, then each group's options with their
/// present values as defaults.
std::string help_text(const std::string& program, const std::vector<OptionGroup>& groups, bool with_parts = false);

/// About a group ("trainer") or, `with_parts`, a kind of parts ("optimizer") or a part ("optimizer.muon"). Throws
/// UsageError for another topic, with the nearest.
std::string help_about(const std::string& topic, const std::vector<OptionGroup>& groups, bool with_parts = false);

}  // namespace troupe
