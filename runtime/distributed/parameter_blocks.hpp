// Parameters divided among the workers of a run, of which a block is whole while it is used.
#pragma once

#include "troupe/runtime/distributed/peers.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace troupe {

/// What strategy = fsdp does to parameters (Zhao et al. 2023, https://arxiv.org/abs/2304.11277). A block is the memory
/// that some parameters are views into. Every worker keeps its part of each block; the whole is gathered when an
/// operator of this worker's thread is about to use a parameter in it, forward or backward, and freed when another
/// block comes. In a training pass the block that came next in the pass before is gathered ahead.
///
/// An operator is any that goes through LibTorch's dispatcher; a parameter that others share memory with (a saved
/// tensor, a view) counts as the same block. An operator that writes to a parameter changes this worker's part with it.
/// What reads memory by its address (`data_ptr`) sees nothing of a block that is not whole.
///
/// Gathering is collective: all workers use the same blocks in the same order. Made, used and destroyed by the worker's
/// thread; autograd's threads for other devices may compute its backward passes.
class ParameterBlocks {
 public:
  explicit ParameterBlocks(Peers& peers);
  ~ParameterBlocks();
  ParameterBlocks(const ParameterBlocks&) = delete;
  ParameterBlocks& operator=(const ParameterBlocks&) = delete;

  /// A block with the memory of `whole`, one-dimensional and equal on all workers, which consists of all workers' parts
  /// in the order of ranks. `part` holds this worker's, in memory of its own. From then on the blocks are held.
  std::size_t add(torch::Tensor whole, torch::Tensor part);

  /// Everything is whole until the next batch begins. Collective.
  void hold();
  /// Parts have changed: nothing is whole any more. Collective if something was on its way.
  void drop_all();

  /// An operator is about to use these blocks. Collective unless they are whole.
  void enter(const std::vector<std::size_t>& blocks);
  /// The block that has the memory of `tensor`, whole. Collective unless it is. Others' tensors do nothing.
  void enter_block_of(const torch::Tensor& tensor);
  /// All gradients of a block are there: it is freed.
  void leave(std::size_t block);

  // --- What comes next ---

  /// A batch begins: blocks are whole only while they are used. Its passes are compared with the same of the batch
  /// before.
  void begin_batch();
  /// The pass with that number, of the batch in progress.
  void begin_pass(std::size_t number);
  /// The order is known for the next pass of this number, and nothing stays whole. A further pass has the next number.
  void end_pass();
  void end_batch();
  /// For a worker that has no loss in a pass of the others: enters the blocks that are left of the pass before, so that
  /// the others can gather them, and calls `left` where that pass left one. Throws UsageError if there was none.
  void repeat_pass(const std::function<void(std::size_t block)>& left);

  /// No more blocks are gathered. Those that are not whole get memory again, with NaN in the place of others' parts.
  void close();

  /// The dispatcher's.
  static void seen(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack);

 private:
  struct Block {
    torch::Tensor whole, part;
    std::size_t bytes = 0;
    bool is_whole = true;
    torch::Tensor coming;  // while `work` is in progress
    c10::intrusive_ptr<c10d::Work> work;
  };
  struct Event {
    std::size_t block;
    bool is_leaving;
    bool operator==(const Event&) const = default;
  };
  using Order = std::vector<Event>;

  static ParameterBlocks* of_arguments(const torch::jit::Stack& stack, std::size_t count);
  std::optional<std::size_t> block_of(const torch::Tensor& tensor) const;
  /// Enters what the operator uses; the blocks that it is going to write to.
  std::vector<std::size_t> before(const c10::OperatorHandle& op, const torch::jit::Stack& stack);
  void after_write(std::size_t block);
  std::optional<std::size_t> expected_next() const;
  void begin_to_gather(Block& block);
  void gather(Block& block);
  void discard(Block& block);
  void free(Block& block);

  Peers& peers_;
  std::vector<Block> blocks_;
  std::unordered_map<const void*, std::size_t> known_;  // by the memory of the whole
  bool is_held_ = true, is_closed_ = false, is_in_batch_ = false;
  std::optional<std::size_t> current_;
  std::size_t pass_ = 0;
  Order order_;                          // of the pass in progress
  std::map<std::size_t, Order> orders_;  // by the number of the pass
};

}  // namespace troupe
