// The other workers of a run, as one worker sees them.
#pragma once

#include "troupe/runtime/distributed/place.hpp"

#include <torch/types.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// Everything here is collective, abort() excepted: all workers of the run make the same calls in the same order, each
/// on its own thread. What fails or waits longer than the backends' timeout throws and says which call it was.
///
/// There are three channels, so that a small question never waits behind a bucket of gradients, and a vote that is cast
/// ahead never meets a question that others ask first.
class Peers {
 public:
  using Channel = c10::intrusive_ptr<c10d::Backend>;

  /// `tensors` carries tensors of the workers' kind of device, the others small ones of the CPU.
  Peers(const Place& place, c10::DeviceType device, Channel tensors, Channel control, Channel votes);

  const Place& place() const { return place_; }
  /// The channel for tensors as LibTorch's engines take it.
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const { return group_; }

  /// What each worker says, by global rank.
  std::vector<std::string> all_gather_bytes(const std::string& mine);
  /// `what` of global rank zero.
  std::string from_rank_zero(const std::string& what) { return all_gather_bytes(what).front(); }
  /// Returns when all are here.
  void wait_for_all();
  /// Begins to wait for all; the work is done when all have begun it, and fails after `timeout`.
  c10::intrusive_ptr<c10d::Work> begin_wait_for_all(std::chrono::milliseconds timeout);
  /// Begins a vote: the sum over all workers of a small tensor of the CPU, in place; it is there when the work is done.
  c10::intrusive_ptr<c10d::Work> begin_vote(torch::Tensor& values);
  /// The tensor of every worker, along a new first dimension. All have the same shape.
  torch::Tensor all_gather(const torch::Tensor& tensor);
  /// Combines the tensors of all workers, in place.
  void all_reduce(torch::Tensor& tensor, const c10d::ReduceOp& op);
  /// Begins the sum of all workers' `input`, of which each gets the part of its rank; `input` is as long as all parts.
  c10::intrusive_ptr<c10d::Work> begin_reduce_scatter(torch::Tensor& part, torch::Tensor& input);
  /// Begins to put the parts of all workers into `output`, in the order of ranks.
  c10::intrusive_ptr<c10d::Work> begin_all_gather(torch::Tensor& output, torch::Tensor& part);
  /// Makes these tensors equal to those of global rank zero.
  void broadcast(const std::vector<torch::Tensor>& tensors);

  /// From any thread: calls in progress and later ones throw with `reason`.
  void abort(const std::string& reason);

 private:
  Place place_;
  Channel tensors_, control_, votes_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

}  // namespace troupe
