// Batches of samples of several lengths.
#pragma once

#include "troupe/modules/data/data_loader.hpp"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace troupe {

enum class PadSide { right, left };

/// How one tensor of the samples is padded.
struct PadOptions {
  /// Its name.
  std::string tensor = {};
  /// Of the sample's dimensions, the one that is filled up; -1 is the last.
  int64_t dim = 0;
  /// What it is filled up with; it must be a value of the tensor's type.
  double value = 0;
  /// The batch's length is the longest sample's, rounded up to a multiple of this.
  int64_t multiple_of = 1;
  /// Which side the padding is on: left for a decoder that goes on writing at the end.
  PadSide side = PadSide::right;
  /// Name of a tensor to add to the batch, int64 [batch]: the length of each sample. Empty: none.
  std::string lengths = {};
  /// Name of a tensor to add to the batch, bool [batch, length]: true where the sample has elements. Empty: none.
  std::string mask = {};
};

/// A collate function that fills up the named tensors of a batch's samples to one length and stacks the rest as
/// default_collate does. A tensor of shape [..., length, ...] becomes [batch, ..., longest, ...]. With `dim = 0` and
/// `side = right` these are the values of torch.nn.utils.rnn.pad_sequence with batch_first
/// (https://pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html).
///
///     DataLoader loader(texts, {.batch_size = 32,
///                               .collate = PadCollate{{.tensor = "tokens", .value = 50256, .mask = "mask"}}});
///
/// It has no state; any thread may call it.
class PadCollate {
 public:
  /// Throws UsageError for nothing to pad, multiple_of < 1, and a name that is empty or comes twice, `lengths` and
  /// `mask` included.
  PadCollate(std::initializer_list<PadOptions> padded) : PadCollate(std::vector<PadOptions>(padded)) {}
  explicit PadCollate(std::vector<PadOptions> padded);
  /// Throws CollateError for the sample that lacks a tensor, or whose type or other sizes differ from the first one's.
  /// Throws UsageError for a dimension that the tensors lack, a padding value that their type cannot hold, and a name
  /// to add that the samples have.
  Batch operator()(std::vector<Batch> samples) const;

 private:
  std::vector<PadOptions> padded_;
};

}  // namespace troupe
