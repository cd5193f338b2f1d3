// Patterns of the names of parameters and layers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// The patterns that '|' separates in `text`: "*.bias|*norm*" is two.
std::vector<std::string> patterns_in(std::string_view text);

/// Whether the whole name fits one pattern, as file names do in a shell: `*` stands for any text, dots included, `?`
/// for one character, `[0-3]` for one of these.
bool fits_pattern(const std::string& name, const std::string& pattern);

/// Up to three of `names`, nearest first, for a pattern that fits none of them: "a, b, c". Empty if there are no names.
std::string names_near(std::string_view pattern, const std::vector<std::string>& names);

}  // namespace troupe
