#include "troupe/runtime/data/batch_pool.hpp"

#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace troupe {

/// What waits to be used again.
struct BatchPool::Blocks {
  struct Block {
    c10::DataPtr data;
    std::size_t bytes = 0;
  };

  Block take(std::size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      // All blocks are as large as the largest batch: only an epoch's last one is smaller.
      if (bytes > most) waiting.clear();
      most = std::max(most, bytes);
      if (!waiting.empty()) {
        Block block = std::move(waiting.back());
        waiting.pop_back();
        return block;
      }
      bytes = most;
    }
    return {c10::GetCPUAllocator()->allocate(bytes), bytes};
  }
  void give_back(Block block) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (block.bytes >= most) waiting.push_back(std::move(block));
  }

  std::mutex mutex;
  std::vector<Block> waiting;
  std::size_t most = 0;  // that was asked for: the size of all blocks
};

BatchPool::BatchPool() : blocks_(std::make_shared<Blocks>()) {}

torch::Tensor BatchPool::take(at::IntArrayRef sizes, torch::ScalarType type) {
  const auto bytes = static_cast<std::size_t>(c10::multiply_integers(sizes)) * c10::elementSize(type);
  // What std::function holds must be copyable.
  auto block = std::make_shared<Blocks::Block>(blocks_->take(bytes));
  void* const data = block->data.get();
  return at::from_blob(
      data, sizes, [blocks = blocks_, block](void*) { blocks->give_back(std::move(*block)); },
      torch::TensorOptions(type));
}

}  // namespace troupe
