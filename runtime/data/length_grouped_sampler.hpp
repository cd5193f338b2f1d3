// Batches of samples of similar length, so that little of them is padding.
#pragma once

#include "troupe/modules/data/sampler.hpp"

#include <cstdint>
#include <vector>

namespace troupe {

struct LengthGroupedOptions {
  /// Samples that are to be of similar length: those of one step, which is the loader's batch_size times the ranks that
  /// divide its samples among them.
  int64_t batch_size = 1;
  /// Batches' worth of samples that are sorted together: more of them, and less is padding; fewer, and the batches are
  /// more mixed. At most a quarter of the dataset.
  int64_t window_batches = 50;
  /// The full batch with the longest sample comes first, so that one too large for the memory fails at once. Not so the
  /// samples that are left at the end, fewer than a batch: they are the shortest of their window, but where the full
  /// batches are a multiple of the window they are one of their own, which may have the longest sample of all.
  bool longest_first = true;
};

/// Every sample once, those of a batch of similar length, the batches in a random order: the epoch's random order is
/// cut into windows, each is sorted by length and cut into batches, and the batches are shuffled; one that is not full
/// comes last. As Hugging Face's LengthGroupedSampler (https://huggingface.co/docs/transformers/main_classes/trainer,
/// `group_by_length`), whose batches keep the order of their windows. The order is stored: 8 bytes a sample, beside 8
/// for its length. PadCollate joins such samples.
///
///     DataLoader loader(texts, {.batch_size = 32,
///                               .sampler = std::make_shared<LengthGroupedSampler>(lengths, LengthGroupedOptions{32}),
///                               .collate = PadCollate{{.tensor = "tokens", .value = pad_token}}});
class LengthGroupedSampler : public Sampler {
 public:
  /// `lengths` of the samples, in any unit. Throws UsageError for no lengths, a negative one (its index is named),
  /// batch_size < 1 and window_batches < 1.
  LengthGroupedSampler(std::vector<int64_t> lengths, LengthGroupedOptions options);
  /// Throws UsageError if the dataset's size is not the number of lengths.
  std::vector<int64_t> indices(int64_t size, uint64_t seed, int64_t epoch) const override;
  int64_t count(int64_t) const override { return static_cast<int64_t>(lengths_.size()); }

 private:
  int64_t length(int64_t index) const { return lengths_[static_cast<std::size_t>(index)]; }

  std::vector<int64_t> lengths_;
  LengthGroupedOptions options_;
};

}  // namespace troupe
