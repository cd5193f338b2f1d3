#include "troupe/modules/options/amount.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"

#include <algorithm>

namespace troupe {

std::optional<int64_t> Amount::of(std::optional<int64_t> total, std::string_view option) const {
  const std::string self = std::string(option) + " = " + to_text();
  if (!valid()) throw UsageError(self + " is not a count of at least 0 or a fraction from 0.0 to 1.0");
  if (is_none()) return 0;
  if (is_count()) return total ? std::min(count(), *total) : count();
  if (fraction() == 1.0) return total;
  if (!total) throw UsageError(self + " is a fraction of a stream of unknown length; use 1.0 or a count of batches");
  const auto batches = static_cast<int64_t>(static_cast<double>(*total) * fraction());
  if (batches == 0 && *total > 0) {
    throw UsageError(self + " of " + std::to_string(*total) + " batches is less than one batch; use at least " +
                     double_to_text(1.0 / static_cast<double>(*total)) + " or a count of batches");
  }
  return batches;
}

std::string Amount::to_text() const {
  return is_count() ? std::to_string(count()) : double_to_text(fraction());
}

std::optional<Amount> Amount::from_text(std::string_view text) {
  const bool whole = text.find_first_not_of("+-0123456789") == std::string_view::npos;
  std::optional<Amount> amount;
  if (whole) {
    if (const auto count = number_from_text<int64_t>(text)) amount = Amount(*count);
  } else if (const auto fraction = number_from_text<double>(text)) {
    amount = Amount(*fraction);
  }
  return amount && amount->valid() ? amount : std::nullopt;
}

}  // namespace troupe
