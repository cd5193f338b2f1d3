// Memory for copies of a run's state.
#pragma once

#include <torch/types.h>

#include <string>
#include <unordered_map>

namespace troupe {

/// Keeps the memory from one snapshot to the next: the first touch of new memory costs ten times a copy. It holds as
/// much as one snapshot needs. Belongs to one thread; what it handed out may be read and dropped on any.
class SnapshotMemory {
 public:
  /// Before the copies of a snapshot: what the one before did not use is given back.
  void begin();
  /// A copy in host memory, dense, page-locked where `tensor` is on a GPU. Memory that somebody still holds a tensor of
  /// is not used again.
  torch::Tensor copy(const std::string& name, const torch::Tensor& tensor);

 private:
  std::unordered_map<std::string, torch::Tensor> kept_, kept_before_;
};

}  // namespace troupe
