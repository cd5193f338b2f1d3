#include "troupe/runtime/sinks/json_line.hpp"

#include "troupe/base/number_json.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <span>

namespace troupe {
namespace {

using Metrics = std::span<const std::pair<std::string, double>>;

bool is_plain_json(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c < '\x7F' && c != '"' && c != '\\'; });
}

void append_escaped(std::string& line, char c) {
  constexpr std::string_view digits = "0123456789abcdef";
  if (c == '"' || c == '\\') {
    line += {'\\', c};
  } else if (c == '\n') {
    line += "\\n";
  } else if (static_cast<unsigned char>(c) < ' ') {
    line += "\\u00";
    line += {digits[static_cast<std::size_t>(c) >> 4], digits[static_cast<std::size_t>(c) & 15]};
  } else {
    line += c;
  }
}

// A few names are compared faster than they are sorted.
bool has_repeated_name(Metrics values) {
  constexpr std::size_t few = 16;
  if (values.size() <= few) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (values[i].first == values[j].first) return true;
      }
    }
    return false;
  }
  std::vector<std::string_view> names;
  for (const auto& value : values) names.emplace_back(value.first);
  std::ranges::sort(names);
  return std::ranges::adjacent_find(names) != names.end();
}

}  // namespace

void append_json_text(std::string& line, std::string_view text) {
  line += '"';
  if (is_plain_json(text)) {
    line += text;
  } else {
    for (const char c : valid_utf8(text)) append_escaped(line, c);
  }
  line += '"';
}

void append_json_number(std::string& line, double value) {
  if (!std::isfinite(value)) {
    line += number_to_json(value).dump();
    return;
  }
  std::array<char, 32> text;
  line.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr);
}

void append_json_metrics(std::string& line, const std::vector<std::pair<std::string, double>>& values) {
  const bool repeats = has_repeated_name(values);
  char separator = '{';
  for (auto value = values.begin(); value != values.end(); ++value) {
    const auto has_this_name = [&](const auto& other) { return other.first == value->first; };
    if (repeats && std::any_of(value + 1, values.end(), has_this_name)) continue;
    line += separator;
    append_json_text(line, value->first);
    line += ':';
    append_json_number(line, value->second);
    separator = ',';
  }
  line += separator == '{' ? "{}" : "}";
}

}  // namespace troupe
