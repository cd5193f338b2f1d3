// Several training loaders as one epoch of batches.
#pragma once

#include "troupe/modules/options/trainer_choices.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace troupe {

/// Which loader serves which batches, as a function of the lengths and the position alone, so that a resumed epoch
/// begins in its middle without reading what came before. One loader is an epoch of its own in every mode.
///
/// With max_size_cycle a shorter loader begins anew, in a new order: its epochs are numbered on over the epochs of the
/// run.
class CombinedEpoch {
 public:
  /// A stretch of one loader's batches.
  struct Opening {
    std::size_t loader = 0;
    int64_t epoch = 0;     ///< the loader's own count
    int64_t position = 0;  ///< its first batch
    int64_t limit = -1;    ///< batches with an index below this; -1: to the end
  };

  CombinedEpoch() = default;
  /// Lengths in batches, nothing for a stream of unknown length. `limit` bounds the batches of the epoch; -1: none.
  /// Throws UsageError for a loader without a length where the mode needs one.
  CombinedEpoch(CombineMode mode, std::vector<std::optional<int64_t>> lengths, int64_t limit = -1);

  /// Batches of the epoch; nothing if a stream decides.
  std::optional<int64_t> length() const { return length_; }
  /// Whether a batch has a part for each loader.
  bool has_parts() const { return lengths_.size() > 1 && mode_ != CombineMode::sequential; }
  /// What to open to serve batch `index` of the run's epoch `epoch` and those after it.
  std::vector<Opening> openings_at(int64_t epoch, int64_t index) const;
  /// What to open when `loader` has served its stretch up to batch `index` of the epoch, exclusive; nothing when that
  /// was its last.
  std::optional<Opening> opening_after(std::size_t loader, int64_t epoch, int64_t index) const;

 private:
  std::optional<Opening> opening(std::size_t loader, int64_t epoch, int64_t index) const;

  CombineMode mode_ = CombineMode::max_size_cycle;
  std::vector<std::optional<int64_t>> lengths_;
  std::optional<int64_t> length_;
};

}  // namespace troupe
