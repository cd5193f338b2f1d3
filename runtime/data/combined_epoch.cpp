#include "troupe/runtime/data/combined_epoch.hpp"

#include "troupe/base/failure.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace troupe {

CombinedEpoch::CombinedEpoch(CombineMode mode, std::vector<std::optional<int64_t>> lengths, int64_t limit)
    : mode_(mode), lengths_(std::move(lengths)) {
  const auto refuse_stream = [&](std::size_t i, const char* what) {
    throw UsageError("train loader " + std::to_string(i) + " is a stream of unknown length, which " + what +
                     "; use multiple_trainloader_mode = min_size, or put it last with sequential");
  };
  int64_t sum = 0;
  for (std::size_t i = 0; i < lengths_.size(); ++i) {
    const bool is_only = lengths_.size() == 1;
    if (!lengths_[i]) {
      if (!is_only && mode_ == CombineMode::max_size_cycle)
        refuse_stream(i, "max_size_cycle cannot begin anew in time");
      if (mode_ == CombineMode::sequential && i + 1 < lengths_.size()) {
        refuse_stream(i, "sequential can have as its last only");
      }
      continue;
    }
    const int64_t length = *lengths_[i];
    sum += length;
    if (!length_) length_ = length;
    if (mode_ == CombineMode::max_size_cycle) length_ = std::max(*length_, length);
    if (mode_ == CombineMode::min_size) length_ = std::min(*length_, length);
  }
  const bool has_stream = std::ranges::any_of(lengths_, [](const auto& length) { return !length; });
  if (mode_ == CombineMode::sequential) length_ = sum;
  if (has_stream) length_ = std::nullopt;
  if (limit >= 0) length_ = length_ ? std::min(*length_, limit) : limit;
}

std::optional<CombinedEpoch::Opening> CombinedEpoch::opening(std::size_t loader, int64_t epoch, int64_t index) const {
  if (length_ && index >= *length_) return std::nullopt;
  const auto& own = lengths_[loader];
  if (mode_ == CombineMode::sequential && lengths_.size() > 1) {
    int64_t offset = 0;
    for (std::size_t i = 0; i < loader; ++i) offset += *lengths_[i];
    if (index < offset || (own && index >= offset + *own)) return std::nullopt;
    return Opening{loader, epoch, index - offset, length_ ? *length_ - offset : -1};
  }
  if (mode_ == CombineMode::min_size || !own) return Opening{loader, epoch, index, length_.value_or(-1)};
  if (*own == 0) return std::nullopt;
  // Cycles of its own in an epoch of the whole length, so that each has a number and an order of its own.
  const int64_t whole =
      *std::ranges::max_element(lengths_, {}, [](const auto& length) { return length.value_or(0); })->operator->();
  const int64_t cycles = (whole + *own - 1) / *own;
  const int64_t cycle = index / *own;
  return Opening{loader, epoch * cycles + cycle, index % *own,
                 length_ ? std::min(*own, *length_ - cycle * *own) : *own};
}

std::vector<CombinedEpoch::Opening> CombinedEpoch::openings_at(int64_t epoch, int64_t index) const {
  std::vector<Opening> openings;
  for (std::size_t loader = 0; loader < lengths_.size(); ++loader) {
    if (const auto one = opening(loader, epoch, index)) openings.push_back(*one);
  }
  return openings;
}

std::optional<CombinedEpoch::Opening> CombinedEpoch::opening_after(std::size_t loader, int64_t epoch,
                                                                   int64_t index) const {
  if (mode_ == CombineMode::min_size) return std::nullopt;
  if (mode_ == CombineMode::sequential) {
    // An empty loader in between is passed over.
    for (std::size_t next = loader + 1; next < lengths_.size(); ++next) {
      if (const auto one = opening(next, epoch, index)) return one;
    }
    return std::nullopt;
  }
  return lengths_.size() > 1 ? opening(loader, epoch, index) : std::nullopt;
}

}  // namespace troupe
