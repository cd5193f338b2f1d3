#include "troupe/runtime/distributed/peers.hpp"

#include "troupe/runtime/collectives/collective_backend.hpp"
#include "troupe/runtime/collectives/gather.hpp"
#include "troupe/runtime/collectives/process_group.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/comm.hpp>

namespace troupe {

namespace {

// Of small tensors that travel together.
constexpr std::size_t broadcast_buffer_bytes = std::size_t{8} << 20;

void abort_channel(const Peers::Channel& channel, const std::string& reason) {
  if (auto* own = dynamic_cast<CollectiveBackend*>(channel.get())) return own->abort(reason);
  channel->abort();
}

}  // namespace

Peers::Peers(const Place& place, c10::DeviceType device, Channel tensors, Channel control, Channel votes)
    : place_(place),
      tensors_(std::move(tensors)),
      control_(std::move(control)),
      votes_(std::move(votes)),
      group_(as_process_group(tensors_, device)) {}

std::vector<std::string> Peers::all_gather_bytes(const std::string& mine) {
  return troupe::all_gather_bytes(*control_, mine);
}

void Peers::wait_for_all() {
  control_->barrier()->wait();
}

c10::intrusive_ptr<c10d::Work> Peers::begin_wait_for_all(std::chrono::milliseconds timeout) {
  c10d::BarrierOptions options;
  options.timeout = timeout;
  return control_->barrier(options);
}

c10::intrusive_ptr<c10d::Work> Peers::begin_vote(torch::Tensor& values) {
  std::vector<torch::Tensor> tensors{values};
  return votes_->allreduce(tensors);
}

torch::Tensor Peers::all_gather(const torch::Tensor& tensor) {
  const torch::NoGradGuard no_gradients;
  std::vector<torch::Tensor> inputs{tensor.detach().contiguous()};
  std::vector<std::vector<torch::Tensor>> outputs(1);
  for (int64_t rank = 0; rank < place_.world_size; ++rank) outputs[0].push_back(torch::empty_like(inputs[0]));
  tensors_->allgather(outputs, inputs)->wait();
  return torch::stack(outputs[0]);
}

void Peers::all_reduce(torch::Tensor& tensor, const c10d::ReduceOp& op) {
  std::vector<torch::Tensor> tensors{tensor};
  c10d::AllreduceOptions options;
  options.reduceOp = op;
  tensors_->allreduce(tensors, options)->wait();
}

c10::intrusive_ptr<c10d::Work> Peers::begin_reduce_scatter(torch::Tensor& part, torch::Tensor& input) {
  return tensors_->_reduce_scatter_base(part, input);
}

c10::intrusive_ptr<c10d::Work> Peers::begin_all_gather(torch::Tensor& output, torch::Tensor& part) {
  return tensors_->_allgather_base(output, part);
}

void Peers::broadcast(const std::vector<torch::Tensor>& tensors) {
  if (tensors.empty()) return;
  const torch::NoGradGuard no_gradients;
  c10d::broadcast_coalesced(group_, tensors, broadcast_buffer_bytes, 0);
}

void Peers::abort(const std::string& reason) {
  abort_channel(votes_, reason);
  abort_channel(control_, reason);
  abort_channel(tensors_, reason);
}

}  // namespace troupe
