// Transforms of batches: each sample is mixed with the one before it. Labels become soft, [N, num_classes].
//
// At collate time, where a resumed run and any number of fetchers draw the same (protocol rule P9):
//
//     DataLoader(dataset, {.batch_size = 128, .shuffle = true, .collate = MixUp({.num_classes = 10}).collate()})
//
// or in a module's on_before_batch_transfer: `return mixup(std::move(batch));`.
#pragma once

#include "troupe/modules/batch.hpp"
#include "troupe/modules/data/data_loader.hpp"

#include <torch/types.h>

#include <cstdint>
#include <optional>

namespace troupe::transforms {

struct MixOptions {
  /// Of the beta distribution that the share of a sample comes from; above 0.
  double alpha = 1;
  /// Needed for labels [N] of class indices; labels [N, classes] are shares already.
  std::optional<int64_t> num_classes = std::nullopt;
};

/// A batch is images [N, C, H, W] at position 0, labels at position 1; what follows is left as it is.
class MixUp {
 public:
  /// Throws UsageError for an alpha that is not above 0 or fewer than 1 class.
  explicit MixUp(MixOptions options = {});
  /// Floating-point images. Throws UsageError for what does not fit, naming shape, type or label.
  Batch operator()(Batch batch) const;
  /// default_collate, then this.
  Collate collate() const;
  /// The share of each sample in its own place.
  double draw() const;
  Batch apply(Batch batch, double lambda) const;

 private:
  MixOptions options_;
};

class CutMix {
 public:
  /// Columns x1 to x2 and rows y1 to y2 (exclusive) come from the other sample.
  struct Parameters {
    int64_t x1 = 0, y1 = 0, x2 = 0, y2 = 0;
    double lambda = 1;  ///< the share of the image outside of the box, which weighs the label
  };

  explicit CutMix(MixOptions options = {});
  /// Images of any type.
  Batch operator()(Batch batch) const;
  Collate collate() const;
  Parameters draw(int64_t height, int64_t width) const;
  Batch apply(Batch batch, const Parameters& parameters) const;

 private:
  MixOptions options_;
};

}  // namespace troupe::transforms
