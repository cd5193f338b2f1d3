// Numbers as text and back: the whole text, no locale, no loss.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace troupe {

/// The number that the whole of `text` spells (a leading + is accepted); nothing when it is not one or out of range.
/// "nan" and "inf" are numbers to a floating-point type.
template <class Number>
std::optional<Number> number_from_text(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// The shortest text that gives the same double back, recognisable as floating: "1.0", "0.001", "1e-05".
inline std::string double_to_text(double value) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  std::string text(buffer, result.ptr);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

}  // namespace troupe
