// Memory of batches that is used again.
#pragma once

#include <torch/types.h>

#include <memory>

namespace troupe {

/// Gives tensors whose memory comes back once nobody holds them or a view of them. Batches of images take tens of
/// megabytes, for which malloc asks the operating system each time: it clears every page of them, which took a third of
/// the time of decoding photos into them.
///
/// A cheap, copyable handle; copies share the memory. Safe to call from several threads, and tensors may be released on
/// any thread, after the pool too.
class BatchPool {
 public:
  BatchPool();
  /// Uninitialised and contiguous, on the CPU.
  torch::Tensor take(at::IntArrayRef sizes, torch::ScalarType type);

 private:
  struct Blocks;
  std::shared_ptr<Blocks> blocks_;
};

}  // namespace troupe
