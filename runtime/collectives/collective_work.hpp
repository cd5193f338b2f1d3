// The handle of a collective operation in flight.
#pragma once

#include "troupe/runtime/process/pulse.hpp"

#include <ATen/core/ivalue.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace troupe {

/// Ends once, with success or with an exception: the first outcome counts. Any thread may call any function.
class CollectiveWork : public c10d::Work {
 public:
  using Clock = std::chrono::steady_clock;

  /// `what` is for messages: "all-reduce (sum) of Float [16] (number 3, rank 1 of 4, 64 bytes)". The operation has to
  /// be finished `timeout` from now.
  CollectiveWork(c10d::OpType type, int rank, uint64_t sequence, std::function<std::string()> what,
                 std::vector<at::Tensor> results, std::chrono::milliseconds timeout);

  /// Waits for the outcome: returns true or throws what the operation failed with. With a timeout other than
  /// c10d's kNoTimeout it throws CollectiveTimeout when that passes first, and the operation goes on. The operation's
  /// own timeout ends it in any case (DeadlineWatch), for those too who wait for the future.
  bool wait(std::chrono::milliseconds timeout = kNoTimeout) override;

  /// The tensors that hold the result.
  std::vector<at::Tensor> result() override { return results_; }

  /// Completes with the list of result() or with the exception.
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;

  uint64_t getSequencenumber() const override { return sequence_; }

  /// False if the work had its outcome already.
  bool succeed() { return conclude(nullptr); }
  bool fail(std::exception_ptr error) { return conclude(std::move(error)); }

  std::chrono::milliseconds timeout() const { return timeout_; }
  Clock::time_point deadline() const { return deadline_; }
  std::string what() const { return what_(); }

  /// The last owner is gone: weak references keep an object, but not what it holds.
  void release_resources() override { results_.clear(); }

  /// Called by each thread that waits, before it sleeps: a transport lets it help. Set before the work is handed out.
  std::function<void()> assist;

 private:
  bool conclude(std::exception_ptr error);
  const uint64_t sequence_;
  const std::function<std::string()> what_;
  std::vector<at::Tensor> results_;
  const std::chrono::milliseconds timeout_;
  const Clock::time_point deadline_;
  CollectiveInFlight in_flight_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;  // made when somebody asks for it
};

/// "5 s", "0.25 s".
std::string in_seconds(std::chrono::milliseconds time);

}  // namespace troupe
