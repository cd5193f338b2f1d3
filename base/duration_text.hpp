// Durations as text and back.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace troupe {

/// The duration that the whole of `text` spells: "DD:HH:MM:SS" as in Lightning, "HH:MM:SS", or a number with a unit,
/// "250ms", "5s", "1.5m", "12h", "2d". Days have up to six digits, all else two; minutes and seconds may be more than
/// 59. Nothing for any other text, and for what is above 999,999 days.
std::optional<std::chrono::milliseconds> duration_from_text(std::string_view text);

/// What a text that spells no duration may have meant: "5m" for "5min", "00:01:30" for "1:30", "14d" for "2 weeks";
/// "30s" if nothing comes near. Units, for messages: duration_units.
std::string nearest_duration(std::string_view text);
constexpr std::string_view duration_units = "ms, s, m, h or d";

/// "00:12:00:00" for half a day, "250ms" if it is no number of whole seconds: duration_from_text gives it back.
std::string duration_to_text(std::chrono::milliseconds duration);

}  // namespace troupe
