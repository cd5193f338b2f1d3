// Numbers in JSON, which has no NaN and no infinities.
#pragma once

#include <nlohmann/json.hpp>

#include <cmath>
#include <optional>

namespace troupe {

/// The number, or "NaN", "Infinity" or "-Infinity".
inline nlohmann::json number_to_json(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
}

/// What number_to_json has made; nothing for anything else.
inline std::optional<double> number_from_json(const nlohmann::json& json) {
  if (json.is_number()) return json.get<double>();
  if (json == "NaN") return std::nan("");
  if (json == "Infinity") return HUGE_VAL;
  if (json == "-Infinity") return -HUGE_VAL;
  return std::nullopt;
}

}  // namespace troupe
