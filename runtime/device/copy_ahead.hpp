// Batches on their way to a GPU while it computes on an earlier one.
#pragma once

#include "troupe/modules/batch.hpp"

#include <memory>

namespace troupe {

/// A batch that is being copied. Its tensors may be used after CopyAhead::finish.
struct CopiedBatch {
  Batch batch;
  std::shared_ptr<void> mark;  ///< null: there is nothing to wait for
};

/// Copies batches to one device on a stream of its own, ahead of the stream that computes; neither waits for the host
/// when the batches are pinned (Harris 2012, "How to Overlap Data Transfers in CUDA C/C++",
/// https://developer.nvidia.com/blog/how-overlap-data-transfers-cuda-cc/). On the CPU all of it
/// does nothing.
///
/// The constructor makes the device and a stream of its pool current for the calling thread, which must be the one that
/// uses the object, and is to be the only one that computes on the device.
class CopyAhead {
 public:
  explicit CopyAhead(torch::Device device);
  ~CopyAhead();

  /// Begins to copy.
  CopiedBatch begin(Batch batch);
  /// Makes the computing stream wait for the copy, not the host.
  Batch finish(CopiedBatch copied);

 private:
  struct Streams;
  std::unique_ptr<Streams> streams_;  // null on the CPU
};

}  // namespace troupe
