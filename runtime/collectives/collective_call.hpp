// One call of a collective operation in its plain form: contiguous memory on the CPU. CollectiveBackend makes it out of
// the many forms that c10d::Backend has; the transports carry it out.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace troupe {

enum class Collective { all_reduce, broadcast, all_gather, reduce_scatter, barrier };

/// "all-reduce", "broadcast", ...
const char* name_of(Collective kind);

/// A value; the tensors share memory with the caller's. Both tensors are contiguous, on the CPU and of the same type.
struct CollectiveCall {
  Collective kind = Collective::barrier;
  /// SUM, AVG, PRODUCT, MIN or MAX; of all-reduce and reduce-scatter.
  c10d::ReduceOp::RedOpType op = c10d::ReduceOp::SUM;
  /// What this rank gives. All-reduce and broadcast: the tensor that also gets the result.
  at::Tensor input{};
  /// Where this rank's result goes.
  at::Tensor output{};
  /// All-gather: the elements that each rank gives, in the order of ranks.
  std::vector<int64_t> counts{};
  /// Broadcast: the rank that gives.
  int root = 0;
  /// What Work::result() returns: the caller's tensors.
  std::vector<at::Tensor> results{};
  /// Copies `output` to `results` if they are not the same memory; may be empty. Called once, on any thread.
  std::function<void()> finish{};

  /// Bytes of the larger of the two tensors; 0 for a barrier.
  int64_t bytes() const;
  /// What must be equal on all ranks, for people: "all-reduce (sum) of Float [16, 4]".
  std::string describe() const;
};

/// The first byte of a tensor's memory.
inline char* memory_of(const at::Tensor& tensor) {
  return static_cast<char*>(tensor.data_ptr());
}

/// Whether two ranks that meet in one operation may have called it so.
bool matches(const CollectiveCall& a, const CollectiveCall& b);

}  // namespace troupe
