// Values as JSON, appended to a line: what a sink writes for every record, without a tree of values in between.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// `text` in quotes; bytes that are not UTF-8 become U+FFFD.
void append_json_text(std::string& line, std::string_view text);

/// The shortest number that reads back as the same double. JSON has no NaN and no infinities: they are the texts "NaN",
/// "Infinity" and "-Infinity", which Python's float() reads.
void append_json_number(std::string& line, double value);

/// {"loss":0.25,"acc":0.5}, in their order; of values with one name the last stands.
void append_json_metrics(std::string& line, const std::vector<std::pair<std::string, double>>& values);

}  // namespace troupe
