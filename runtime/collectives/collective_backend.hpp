// What all transports of Troupe's have in common: c10d's interface on the outside, plain calls on the inside.
#pragma once

#include "troupe/runtime/collectives/collective_call.hpp"
#include "troupe/runtime/collectives/collective_work.hpp"

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

namespace troupe {

struct CollectiveOptions {
  /// Each operation has to be finished this long after its call; a call's own timeout takes its place.
  std::chrono::milliseconds timeout = kBackendDefaultTimeout;
  /// Compares what the ranks call before each operation between processes, which costs a small message each time: an
  /// operation that differs is then an error that names the ranks, not a hang or a wrong sum. Between the threads of
  /// one process this is always done.
  bool check_calls = false;
  /// Asked when an operation between processes is late, before it fails, on a thread that may wait for the answer: who
  /// is missing in it, as the end of a sentence.
  std::function<std::string()> who_is_missing = {};
};

/// A rank of a group. The operations start at once and return a Work (collective_work.hpp); every rank has to call the
/// same operations in the same order, each rank from one thread at a time. Tensors are on the CPU, of any strides; they
/// must stay untouched until the work is finished. Types: floating-point (double, float, bfloat16, half), integers and
/// bool, for a bool SUM and MAX are "or", PRODUCT and MIN "and"; AVG is of floating-point types alone. Broadcast and
/// all-gather take every type.
///
/// Results are equal bit for bit on all ranks, and bfloat16 and half are summed in float and rounded once a transport.
///
/// Throws UsageError for arguments that cannot be, CollectiveError once the group was aborted. After an operation
/// failed, the order of the ranks is lost: the group is aborted with that error.
class CollectiveBackend : public c10d::Backend {
 public:
  CollectiveBackend(int rank, int size, std::string name, CollectiveOptions options);

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors,
                                           const c10d::AllreduceOptions& options = {}) override;
  c10::intrusive_ptr<c10d::Work> allreduce_coalesced(std::vector<at::Tensor>& tensors,
                                                     const c10d::AllreduceCoalescedOptions& options = {}) override;
  c10::intrusive_ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors,
                                           const c10d::BroadcastOptions& options = {}) override;
  /// `outputs` holds one list with a tensor for each rank; ranks may give different numbers of elements.
  c10::intrusive_ptr<c10d::Work> allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                           std::vector<at::Tensor>& inputs,
                                           const c10d::AllgatherOptions& options = {}) override;
  c10::intrusive_ptr<c10d::Work> _allgather_base(at::Tensor& output, at::Tensor& input,
                                                 const c10d::AllgatherOptions& options = {}) override;
  /// `inputs` holds one list with a tensor for each rank, all of the output's shape.
  c10::intrusive_ptr<c10d::Work> reduce_scatter(std::vector<at::Tensor>& outputs,
                                                std::vector<std::vector<at::Tensor>>& inputs,
                                                const c10d::ReduceScatterOptions& options = {}) override;
  c10::intrusive_ptr<c10d::Work> _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                      const c10d::ReduceScatterOptions& options = {}) override;
  c10::intrusive_ptr<c10d::Work> barrier(const c10d::BarrierOptions& options = {}) override;

  /// Ends the group for this process: all works in flight and all later calls throw CollectiveError with that reason.
  /// The first reason counts. Any thread may call.
  virtual void abort(const std::string& reason) = 0;
  void abort() override { abort("the group of ranks was aborted"); }

  const std::string getBackendName() const override { return name_; }
  c10::intrusive_ptr<Options> getBackendOptions() override;
  void setTimeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }
  std::chrono::milliseconds timeout() const { return timeout_; }
  void setSequenceNumberForGroup() override {}
  uint64_t getSequenceNumberForGroup() override { return issued_; }

  /// Starts an operation in its plain form; what the functions above end in.
  virtual c10::intrusive_ptr<CollectiveWork> start(CollectiveCall call, std::chrono::milliseconds timeout) = 0;

 protected:
  /// The work of `call`, with the next number.
  c10::intrusive_ptr<CollectiveWork> make_work(const CollectiveCall& call, std::chrono::milliseconds timeout);
  const CollectiveOptions& options() const { return options_; }

 private:
  c10::intrusive_ptr<c10d::Work> launch(CollectiveCall call, std::chrono::milliseconds timeout);

  const std::string name_;
  const CollectiveOptions options_;
  std::atomic<std::chrono::milliseconds> timeout_;
  std::atomic<uint64_t> issued_ = 0;
};

}  // namespace troupe
