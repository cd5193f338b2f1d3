// JSON out of files and into them, without what JSON libraries let pass.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace troupe {

/// Deeper nesting is refused, so that no later walk over the value runs out of stack.
inline constexpr int max_json_depth = 100;

/// The value that the whole of `text` spells. Throws UsageError for what is not JSON, for a key given twice and for
/// nesting deeper than max_json_depth.
nlohmann::json parse_strict_json(std::string_view text);

/// `value` as text that parse_strict_json gives back as it was. Throws UsageError with the place for what JSON cannot
/// hold: NaN and infinities (the library would write null), text that is not UTF-8, binary data, deep nesting. `what`
/// begins the sentence: "the metadata".
std::string strict_json_text(const nlohmann::json& value, std::string_view what);

/// `text` in quotes, as JSON has it; bytes that are not UTF-8 are replaced (valid_utf8).
std::string json_text(std::string_view text);

}  // namespace troupe
