// What stands in for samples whose images are broken.
#pragma once

#include "troupe/runtime/data/images/image_options.hpp"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace troupe {

/// Finds the sample that stands in for one whose image is broken, and keeps which ones are. Replicas of a dataset share
/// one; any thread may call.
class StandIns {
 public:
  explicit StandIns(BrokenImages rule) : rule_(rule) {}

  /// Calls `read` with `index`, or with the first index after it, around the end of `size` samples, for which it throws
  /// no ImageError; returns which that was. Throws ImageError if the rule is to refuse, and if the 100 after it are
  /// broken, too.
  template <class Read>
  int64_t first_readable(int64_t index, int64_t size, const Read& read) {
    constexpr int64_t most_in_a_row = 100;
    const int64_t others = std::min(most_in_a_row, size - 1);
    std::string first_error;
    for (int64_t i = 0; i <= others; ++i) {
      const int64_t at = (index + i) % size;
      try {
        read(at);
        return at;
      } catch (const ImageError& error) {
        if (rule_ == BrokenImages::refuse) throw;
        if (i == 0) first_error = error.what();
        const std::lock_guard<std::mutex> lock(mutex_);
        broken_.insert(at);
      }
    }
    throw ImageError(first_error + "; neither can the " + std::to_string(others) + " images after it be decoded");
  }
  /// The broken ones that were met so far, in order.
  std::vector<int64_t> broken() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {broken_.begin(), broken_.end()};
  }
  int64_t count() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int64_t>(broken_.size());
  }

 private:
  BrokenImages rule_;
  mutable std::mutex mutex_;
  std::set<int64_t> broken_;
};

}  // namespace troupe
