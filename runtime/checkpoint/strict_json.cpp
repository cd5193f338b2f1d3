#include "troupe/runtime/checkpoint/strict_json.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_set>
#include <vector>

namespace troupe {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(std::string_view what, const std::string& place, const std::string& reason) {
  throw UsageError(std::string(what) + " cannot be stored: " + (place.empty() ? "it" : "'" + place + "'") + " " +
                   reason);
}

void check(const json& value, std::string_view what, const std::string& place, int depth) {
  if (depth > max_json_depth) refuse(what, shown(place), "is nested too deeply");
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    refuse(what, shown(place), "is " + double_to_text(value.get<double>()) + ", which JSON does not have");
  }
  if (value.is_string() && !is_utf8(value.get_ref<const std::string&>())) refuse(what, shown(place), "is not UTF-8");
  if (value.is_binary() || value.is_discarded()) refuse(what, shown(place), "is not a JSON value");
  if (!value.is_structured()) return;
  for (const auto& [key, child] : value.items()) {
    if (!is_utf8(key)) refuse(what, shown(place + "/" + key), "has a name that is not UTF-8");
    check(child, what, place.empty() ? key : place + "/" + key, depth + 1);
  }
}

bool has_nothing_in_it(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == text.npos;
}

// `byte`: the number, from 1, of the last one that the parser has read.
std::string what_is_wrong(std::string_view text, std::size_t byte) {
  if (has_nothing_in_it(text)) return "it is empty";
  if (byte > text.size()) return "it ends in the middle";
  const auto at = byte == 0 ? 0 : byte - 1;
  const auto before = text.substr(0, at);
  const auto line = std::ranges::count(before, '\n') + 1;
  const auto column = at - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
  constexpr std::size_t shown_bytes = 12;
  auto there = text.substr(at, shown_bytes);
  while (!there.empty() && !is_utf8(there) && at + there.size() < text.size()) there.remove_suffix(1);  // a cut letter
  if (there.empty()) there = text.substr(at, 1);
  return "it goes wrong at line " + std::to_string(line) + ", byte " + std::to_string(column) + ", '" +
         shown(there.substr(0, there.find('\n'))) + "'";
}

}  // namespace

json parse_strict_json(std::string_view text) {
  std::vector<std::unordered_set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (depth > max_json_depth) throw UsageError("it is nested more than 100 deep");
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      throw UsageError("it has the key '" + shown(value.get<std::string>()) + "' twice");
    }
    return true;
  };
  if (text.find('\0') != text.npos) throw UsageError("it is not JSON: it has a zero byte");  // ends it for the parser
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::parse_error& error) {
    throw UsageError("it is not JSON: " + what_is_wrong(text, error.byte));
  } catch (const json::out_of_range& error) {  // "... number overflow parsing '1e400'"
    const std::string what = error.what();
    throw UsageError("it has a number that is too large: " + shown(what.substr(std::min(what.find('\''), what.size()))));
  }
}

std::string strict_json_text(const json& value, std::string_view what) {
  check(value, what, "", 0);
  return value.dump();
}

std::string json_text(std::string_view text) {
  return nlohmann::json(valid_utf8(text)).dump();
}

}  // namespace troupe
