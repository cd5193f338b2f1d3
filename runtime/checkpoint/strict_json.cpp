#include "troupe/runtime/checkpoint/strict_json.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cmath>
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

/// Without the numbers and names that the library gives its errors.
std::string problem_of(const json::exception& error) {
  constexpr int number_overflow = 406;  // "... number overflow parsing '1e400'"
  std::string text = error.what();
  if (error.id == number_overflow) {
    return "it has a number that is too large: " + shown(text.substr(std::min(text.find('\''), text.size())));
  }
  if (const auto end = text.find("] "); text.starts_with('[') && end != text.npos) text.erase(0, end + 2);
  return "it is not JSON: " + shown(text);
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
  } catch (const json::exception& error) {
    throw UsageError(problem_of(error));
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
