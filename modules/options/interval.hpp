// How often something happens: in batches, in a part of an epoch, or in time.
#pragma once

#include "troupe/modules/options/amount.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace troupe {

/// A count or a fraction of batches as in an Amount, or a duration; told apart by the type that it is made from, as in
/// Lightning's `val_check_interval`: `Interval(100)` is a hundred batches, `Interval(0.25)` a quarter of an epoch,
/// `Interval(std::chrono::seconds(30))` half a minute.
///
/// Any number may be held, so that the owner of an option can name it when it refuses the number; `valid()` tells.
class Interval {
 public:
  using Duration = std::chrono::milliseconds;

  constexpr Interval(int count) : value_(Amount(count)) {}           // NOLINT(google-explicit-constructor)
  constexpr Interval(int64_t count) : value_(Amount(count)) {}       // NOLINT(google-explicit-constructor)
  constexpr Interval(double fraction) : value_(Amount(fraction)) {}  // NOLINT(google-explicit-constructor)
  constexpr Interval(Amount amount) : value_(amount) {}              // NOLINT(google-explicit-constructor)
  template <class Number, class Period>
  constexpr Interval(std::chrono::duration<Number, Period> time)  // NOLINT(google-explicit-constructor)
      : value_(std::chrono::ceil<Duration>(time)) {}
  Interval(bool) = delete;

  bool operator==(const Interval&) const = default;

  constexpr bool is_time() const { return std::holds_alternative<Duration>(value_); }
  constexpr bool is_count() const { return !is_time() && amount().is_count(); }
  constexpr bool is_fraction() const { return !is_time() && !amount().is_count(); }
  /// Each throws std::bad_variant_access if it is another kind.
  constexpr Duration time() const { return std::get<Duration>(value_); }
  constexpr const Amount& amount() const { return std::get<Amount>(value_); }
  constexpr int64_t count() const { return amount().count(); }
  constexpr double fraction() const { return amount().fraction(); }
  /// A duration of at least 0, or a valid Amount.
  constexpr bool valid() const { return is_time() ? time() >= Duration::zero() : amount().valid(); }
  constexpr bool is_none() const { return is_time() ? time() == Duration::zero() : amount().is_none(); }

  /// "10", "0.5" or "00:00:00:30" (base/duration_text.hpp): from_text gives the same interval back.
  std::string to_text() const;
  /// Nothing when the whole text is no valid interval.
  static std::optional<Interval> from_text(std::string_view text);

 private:
  std::variant<Amount, Duration> value_;
};

}  // namespace troupe
