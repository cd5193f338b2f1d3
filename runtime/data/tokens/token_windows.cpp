#include "troupe/runtime/data/tokens/token_windows.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/fast_loop.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace troupe {

namespace {

/// Copies a window of length + 1 tokens; false: one of them is not in 0 .. highest, unless that is the largest number.
/// The check has no loop of its own, so it costs nothing beside the copy; without __restrict the loops take a third
/// longer.
template <class Token>
TROUPE_INLINE bool copy_window_of(const Token* from, int64_t length, int64_t highest, int64_t* __restrict input,
                                  int64_t* __restrict target) {
  int64_t least = from[length], most = from[length];
  for (int64_t i = 0; i < length; ++i) {
    const int64_t token = from[i];
    input[i] = token;
    least = std::min(least, token);
    most = std::max(most, token);
  }
  for (int64_t i = 0; i < length; ++i) target[i] = from[i + 1];
  return highest == std::numeric_limits<int64_t>::max() || (least >= 0 && most <= highest);
}

// Several processors' versions of a template are not possible.
#define TROUPE_COPY_WINDOW(Token)                                                                       \
  TROUPE_FAST_LOOP bool copy_window(const Token* from, int64_t length, int64_t highest, int64_t* input, \
                                    int64_t* target) {                                                  \
    return copy_window_of(from, length, highest, input, target);                                        \
  }
TROUPE_COPY_WINDOW(uint8_t)
TROUPE_COPY_WINDOW(int8_t)
TROUPE_COPY_WINDOW(int16_t)
TROUPE_COPY_WINDOW(uint16_t)
TROUPE_COPY_WINDOW(int32_t)
TROUPE_COPY_WINDOW(uint32_t)
TROUPE_COPY_WINDOW(int64_t)
#undef TROUPE_COPY_WINDOW

/// Calls `act` with a pointer to token `position` of the sequence, of its type.
template <class Act>
auto with_tokens(const TokenSequence& sequence, int64_t position, Act act) {
  switch (sequence.dtype) {
    case torch::kUInt8: return act(static_cast<const uint8_t*>(sequence.data) + position);
    case torch::kInt8: return act(static_cast<const int8_t*>(sequence.data) + position);
    case torch::kInt16: return act(static_cast<const int16_t*>(sequence.data) + position);
    case torch::kUInt16: return act(static_cast<const uint16_t*>(sequence.data) + position);
    case torch::kInt32: return act(static_cast<const int32_t*>(sequence.data) + position);
    case torch::kUInt32: return act(static_cast<const uint32_t*>(sequence.data) + position);
    case torch::kInt64: return act(static_cast<const int64_t*>(sequence.data) + position);
    default: throw UsageError(std::string("tokens of the type ") + c10::toString(sequence.dtype) + " are not read");
  }
}

}  // namespace

TokenWindows::TokenWindows(std::vector<TokenSequence> sequences, int64_t length, int64_t stride)
    : sequences_(std::move(sequences)), length_(length), stride_(stride) {
  int64_t windows = 0;
  for (const auto& sequence : sequences_) {
    windows += sequence.size > length ? (sequence.size - length - 1) / stride + 1 : 0;
    ends_.push_back(windows);
  }
}

TokenWindows::Place TokenWindows::place(int64_t index) const {
  const auto sequence = static_cast<std::size_t>(std::ranges::upper_bound(ends_, index) - ends_.begin());
  const int64_t before = sequence == 0 ? 0 : ends_[sequence - 1];
  return {.sequence = sequence, .first = (index - before) * stride_};
}

bool TokenWindows::copy(const Place& place, int64_t highest, int64_t* input, int64_t* target) const {
  return with_tokens(sequences_[place.sequence], place.first,
                     [&](const auto* from) { return copy_window(from, length_, highest, input, target); });
}

int64_t TokenWindows::first_beyond(const Place& place, int64_t highest) const {
  for (int64_t i = place.first; i < place.first + length_; ++i) {
    const int64_t value = token(place.sequence, i);
    if (value < 0 || value > highest) return i;
  }
  return place.first + length_;
}

int64_t TokenWindows::token(std::size_t sequence, int64_t position) const {
  return with_tokens(sequences_[sequence], position, [](const auto* at) { return static_cast<int64_t>(*at); });
}

}  // namespace troupe
