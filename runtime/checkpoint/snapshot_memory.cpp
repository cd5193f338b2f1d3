#include "troupe/runtime/checkpoint/snapshot_memory.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <atomic>
#include <utility>

namespace troupe {

namespace {

// Nobody else has it any more, and what they did with it is over.
bool is_free(const torch::Tensor& kept) {
  if (kept.use_count() != 1) return false;
  std::atomic_thread_fence(std::memory_order_acquire);
  return true;
}

}  // namespace

void SnapshotMemory::begin() {
  kept_before_ = std::exchange(kept_, {});
}

torch::Tensor SnapshotMemory::copy(const std::string& name, const torch::Tensor& tensor) {
  const torch::NoGradGuard no_gradients;
  torch::Tensor& kept = kept_[name];
  if (const auto before = kept_before_.find(name); before != kept_before_.end()) kept = std::move(before->second);
  const bool fits = kept.defined() && kept.scalar_type() == tensor.scalar_type() && kept.sizes() == tensor.sizes();
  if (!fits || !is_free(kept)) {
    kept = torch::empty(tensor.sizes(),
                        torch::TensorOptions().dtype(tensor.scalar_type()).pinned_memory(tensor.is_cuda()));
  }
  kept.copy_(tensor);
  return kept;
}

}  // namespace troupe
