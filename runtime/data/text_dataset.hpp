// Text as bytes, for language models.
#pragma once

#include "troupe/modules/data/dataset.hpp"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace troupe {

/// The bytes of files, gzipped or not, one file after the other: uint8 [N]. A folder stands for the files in it in the
/// order of their names, without links, hidden files and further folders. Throws UsageError naming the path that cannot
/// be read or holds no file, for no text at all, and for more than `most_bytes` of it.
torch::Tensor read_bytes(const std::vector<std::filesystem::path>& paths, int64_t most_bytes = int64_t{1} << 33);

/// Windows of a long sequence, for a model that learns what comes next: sample i has the `length` tokens from
/// i * stride on as "input" and those that follow each of them as "target", both int64 [length]. Tokens are whole
/// numbers of any type, bytes for example. A whole batch costs one `index_select`; any thread may call it, the tokens
/// must not change meanwhile.
///
///     auto data = std::make_shared<NextTokenDataset>(read_bytes({"shakespeare.txt"}), 256);
class NextTokenDataset : public Dataset {
 public:
  /// `stride` 0: `length`, so that windows do not overlap. Tokens at the end that fill no window are left out. Throws
  /// UsageError for tokens that are no sequence [N] of whole numbers, length < 1, stride < 0, and where N < length + 1.
  NextTokenDataset(torch::Tensor tokens, int64_t length, int64_t stride = 0);

  int64_t size() const override { return windows_.size(0); }
  Batch get(int64_t index) override;
  std::optional<Batch> get_batch(at::IntArrayRef indices) override;

 private:
  torch::Tensor windows_;  // [size, length + 1], a view of the tokens
};

}  // namespace troupe
