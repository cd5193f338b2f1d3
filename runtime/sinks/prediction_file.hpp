// Predictions of an evaluation on their way to files; see Module::write_prediction.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// What stands before the name of a file that each rank has for itself: nothing of rank 0, else "rank_<r>.".
std::string rank_prefix(int64_t rank);

/// Collects tensors on the host and writes them as safetensors files, one tensor per name. Used from one thread.
class PredictionFiles {
 public:
  /// Adds the rows of `value`, [N, ...], to what `folder/filename` will hold as `name`. Throws UsageError for a file
  /// name that is a path, an empty name, and rows that do not fit those before.
  void add(const std::filesystem::path& folder, const std::string& filename, std::string_view name,
           const torch::Tensor& value);
  /// Writes all files, each whole or not at all (runtime/checkpoint/atomic_write.hpp), and starts afresh.
  void write();

 private:
  using Tensors = std::vector<std::pair<std::string, std::vector<torch::Tensor>>>;  // in order of their first rows
  std::map<std::filesystem::path, Tensors> files_;
};

}  // namespace troupe
