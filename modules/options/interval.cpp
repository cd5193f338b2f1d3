#include "troupe/modules/options/interval.hpp"

#include "troupe/base/duration_text.hpp"

namespace troupe {

std::string Interval::to_text() const {
  return is_time() ? duration_to_text(time()) : amount().to_text();
}

std::optional<Interval> Interval::from_text(std::string_view text) {
  if (const auto amount = Amount::from_text(text)) return Interval(*amount);
  if (const auto time = duration_from_text(text)) return Interval(*time);
  return std::nullopt;
}

}  // namespace troupe
