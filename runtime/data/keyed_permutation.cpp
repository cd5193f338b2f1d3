#include "troupe/runtime/data/keyed_permutation.hpp"

#include <cmath>

namespace troupe {

namespace {

// With 10 rounds the permutations of 6 numbers are visibly not equally likely, with 24 they are.
constexpr uint64_t kSmallPermutation = 4096;

}  // namespace

KeyedPermutation::KeyedPermutation(int64_t size)
    : size_(static_cast<uint64_t>(std::max<int64_t>(0, size))), pairs_of_rounds_(size_ < kSmallPermutation ? 12 : 5) {
  if (size_ == 0) return;
  // About a square, so that both halves are wide: less than one row is outside of the size.
  rows_ = static_cast<uint64_t>(std::sqrt(static_cast<double>(size_)));
  while (rows_ * rows_ < size_) ++rows_;
  columns_ = (size_ + rows_ - 1) / rows_;
}

}  // namespace troupe
