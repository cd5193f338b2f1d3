// An amount of something: a number, or a fraction of the whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace troupe {

/// A count or a fraction of batches, told apart by the type that it is made from, as in Lightning's
/// `limit_train_batches`: `Amount(1)` is one batch, `Amount(1.0)` is all of them.
///
/// Any number may be held, so that the owner of an option can name it when it refuses the number; `valid()` tells.
class Amount {
 public:
  constexpr Amount(int count) : value_(int64_t{count}) {}  // NOLINT(google-explicit-constructor)
  constexpr Amount(int64_t count) : value_(count) {}       // NOLINT(google-explicit-constructor)
  constexpr Amount(double fraction) : value_(fraction) {}  // NOLINT(google-explicit-constructor)
  Amount(bool) = delete;

  bool operator==(const Amount&) const = default;

  constexpr bool is_count() const { return std::holds_alternative<int64_t>(value_); }
  /// The count; throws std::bad_variant_access for a fraction.
  constexpr int64_t count() const { return std::get<int64_t>(value_); }
  /// The fraction; throws std::bad_variant_access for a count.
  constexpr double fraction() const { return std::get<double>(value_); }
  /// A count of at least 0, or a fraction from 0.0 to 1.0 (so not NaN).
  constexpr bool valid() const { return is_count() ? count() >= 0 : fraction() >= 0.0 && fraction() <= 1.0; }
  /// Whether it is 0 or 0.0: nothing of whatever it limits.
  constexpr bool is_none() const { return is_count() ? count() == 0 : fraction() == 0.0; }

  /// How many of `total` this is. No total means unknown (a stream); no answer means no limit.
  ///
  /// A count gives min(count, total), a fraction floor(total * fraction). Throws UsageError, naming `option`, for an
  /// amount that is not valid, for a fraction strictly between 0 and 1 of an unknown total, and for a fraction that
  /// leaves none of a total above 0 without being 0.0 (Lightning refuses both too).
  std::optional<int64_t> of(std::optional<int64_t> total, std::string_view option = "the amount") const;

  /// "10" for a count, "0.5" or "1.0" for a fraction: from_text gives the same amount back.
  std::string to_text() const;
  /// Reads what to_text writes, an exponent too; nothing when the whole text is not a valid amount.
  static std::optional<Amount> from_text(std::string_view text);

 private:
  std::variant<int64_t, double> value_;
};

}  // namespace troupe
