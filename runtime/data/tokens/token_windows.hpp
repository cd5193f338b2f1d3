// Windows of sequences of tokens: where they lie, and copying one.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace troupe {

/// Whole numbers of `dtype` (not uint64) in memory, one after the other.
struct TokenSequence {
  const void* data = nullptr;
  int64_t size = 0;
  torch::ScalarType dtype = torch::ScalarType::Undefined;
};

/// The windows of length + 1 tokens of several sequences, each `stride` after the one before; none crosses from one
/// sequence into the next. Finding one takes memory for the sequences, not for the windows. Any thread may use it.
class TokenWindows {
 public:
  struct Place {
    std::size_t sequence = 0;
    int64_t first = 0;  ///< token of the sequence
  };

  TokenWindows() = default;
  /// `length` and `stride` are at least 1.
  TokenWindows(std::vector<TokenSequence> sequences, int64_t length, int64_t stride);

  int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  /// Window `index`, 0 <= index < size().
  Place place(int64_t index) const;
  /// Writes the first `length` tokens of a window to `input` and the last `length` to `target`. False: one of them is
  /// not in 0 .. highest.
  bool copy(const Place& place, int64_t highest, int64_t* input, int64_t* target) const;
  /// The first token of the window that is not in 0 .. highest, as its place in the sequence.
  int64_t first_beyond(const Place& place, int64_t highest) const;
  int64_t token(std::size_t sequence, int64_t position) const;
  const std::vector<TokenSequence>& sequences() const { return sequences_; }

 private:
  std::vector<TokenSequence> sequences_;
  std::vector<int64_t> ends_;  // windows up to the end of each sequence
  int64_t length_ = 1;
  int64_t stride_ = 1;
};

}  // namespace troupe
