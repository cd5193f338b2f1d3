// Permutations that are computed position by position, and draws of the same kind.
#pragma once

#include "troupe/runtime/data/random.hpp"

#include <algorithm>
#include <cstdint>

namespace troupe {

/// A number in [0, bound), a pure function of `value`; each of them equally often up to bound / 2^64.
constexpr uint64_t hashed_below(uint64_t value, uint64_t bound) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(mix(value)) * bound) >> 64);
}

/// Pseudo-random permutations of 0 .. size - 1, one for each key, of which any position can be asked for at once: about
/// 60 ns and no memory. Values and threads: pure functions, for any thread.
///
/// A Feistel network on pairs (l, r) with position = l * columns + r, whose rounds add a hash of one half to the other;
/// a result that is not below `size` goes through it again (cycle walking). Source: Black and Rogaway, Ciphers with
/// Arbitrary Finite Domains, 2002 (https://doi.org/10.1007/3-540-45760-7_9), the generalized Feistel cipher. As many
/// rounds as in FF1 (https://doi.org/10.6028/NIST.SP.800-38G), more for small sizes, for which 10 rounds do not give
/// all permutations equally often. The hash is SplitMix64's: statistically sound, no secret.
class KeyedPermutation {
 public:
  /// `size` of 0 or more.
  explicit KeyedPermutation(int64_t size);
  int64_t size() const { return static_cast<int64_t>(size_); }
  /// Where `position`, 0 <= position < size(), goes in the permutation of this key.
  int64_t at(int64_t position, uint64_t key) const {
    auto place = static_cast<uint64_t>(position);
    do {
      place = network(place, key);
    } while (place >= size_);
    return static_cast<int64_t>(place);
  }

 private:
  uint64_t network(uint64_t place, uint64_t key) const {
    uint64_t l = place / columns_;
    uint64_t r = place % columns_;
    for (int pair = 0; pair < pairs_of_rounds_; ++pair) {
      l += hashed_below(r ^ key, rows_);
      l = std::min(l, l - rows_);  // modulo: the difference wraps around where it would be negative
      key += kSplitMixStep;
      r += hashed_below(l ^ key, columns_);
      r = std::min(r, r - columns_);
      key += kSplitMixStep;
    }
    return l * columns_ + r;
  }

  uint64_t size_;
  uint64_t rows_ = 1;
  uint64_t columns_ = 1;
  int pairs_of_rounds_;
};

}  // namespace troupe
