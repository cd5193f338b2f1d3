#include "troupe/base/duration_text.hpp"

#include "troupe/base/number_text.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <utility>

namespace troupe {

namespace {

using std::chrono::milliseconds;

constexpr std::size_t longest_days = 6;
constexpr milliseconds longest_duration = std::chrono::hours(24) * 999'999;

std::optional<int64_t> digits_in(std::string_view part, std::size_t fewest, std::size_t most) {
  if (part.size() < fewest || part.size() > most) return std::nullopt;
  if (part.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return number_from_text<int64_t>(part);
}

// [DD:]HH:MM:SS, from its end.
std::optional<milliseconds> clock_time(std::string_view text) {
  constexpr std::array<int64_t, 4> seconds_of = {1, 60, 3600, 86400};
  int64_t seconds = 0;
  std::size_t parts = 0;
  while (true) {
    if (parts == seconds_of.size()) return std::nullopt;
    const auto colon = text.rfind(':');
    const auto part = colon == std::string_view::npos ? text : text.substr(colon + 1);
    const bool is_days = parts == seconds_of.size() - 1;
    const auto number = digits_in(part, is_days ? 1 : 2, is_days ? longest_days : 2);
    if (!number) return std::nullopt;
    seconds += *number * seconds_of[parts++];
    if (colon == std::string_view::npos) break;
    text = text.substr(0, colon);
  }
  if (parts < 3) return std::nullopt;
  return std::chrono::seconds(seconds);
}

std::optional<milliseconds> with_unit(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 5> units = {
      {{"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}}};
  const auto begin = text.find_first_not_of("0123456789.");
  if (begin == std::string_view::npos || begin == 0) return std::nullopt;
  const auto number = number_from_text<double>(text.substr(0, begin));
  for (const auto& [name, size] : units) {
    if (text.substr(begin) != name || !number) continue;
    const double duration = *number * size;
    if (duration > static_cast<double>(longest_duration.count())) return std::nullopt;
    return milliseconds(static_cast<int64_t>(duration + 0.5));
  }
  return std::nullopt;
}

}  // namespace

std::optional<milliseconds> duration_from_text(std::string_view text) {
  return text.find(':') == std::string_view::npos ? with_unit(text) : clock_time(text);
}

std::string nearest_duration(std::string_view text) {
  const auto guess = [&]() -> std::string {
    const auto colon = text.find(':');
    if (colon != std::string_view::npos) {
      if (colon == 0 || colon > 2) return "";
      return "00:" + std::string(2 - colon, '0') + std::string(text);
    }
    const auto end = std::min(text.find_first_not_of("0123456789."), text.size());
    auto number = std::string(text.substr(0, end));
    auto unit = text.substr(end);
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    std::string word(unit);
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    if (word.starts_with('w')) {
      const auto weeks = number_from_text<int64_t>(number);
      return weeks && *weeks <= 999'999 / 7 ? std::to_string(*weeks * 7) + "d" : "";
    }
    if (word.starts_with("ms") || word.starts_with("mil")) return number + "ms";
    const bool is_unit = !word.empty() && std::string_view("smhd").find(word[0]) != std::string_view::npos;
    return number + (is_unit ? word[0] : 's');
  }();
  return duration_from_text(guess) ? guess : "30s";
}

std::string duration_to_text(milliseconds duration) {
  const int64_t count = duration.count();
  if (count < 0 || count % 1000 != 0) return std::to_string(count) + "ms";
  const int64_t seconds = count / 1000;
  std::array<char, 48> text{};
  std::snprintf(text.data(), text.size(), "%02lld:%02lld:%02lld:%02lld", static_cast<long long>(seconds / 86400),
                static_cast<long long>(seconds / 3600 % 24), static_cast<long long>(seconds / 60 % 60),
                static_cast<long long>(seconds % 60));
  return text.data();
}

}  // namespace troupe
