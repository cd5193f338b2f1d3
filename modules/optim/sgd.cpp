#include "troupe/modules/optim/sgd.hpp"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>

namespace troupe::optim {

namespace {

bool is_half_on_cpu(const torch::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  return tensor.is_cpu() && (type == at::kBFloat16 || type == at::kHalf);
}

Parameters in_float32(const Parameters& tensors) {
  Parameters wide;
  for (const auto& tensor : tensors) wide.push_back(tensor.detach().to(at::kFloat));
  return wide;
}

void run_kernel(const SgdOptions& options, const Parameters& parameters, const Parameters& gradients,
                const Parameters& buffers, bool is_first) {
  at::_fused_sgd_(parameters, gradients, options.momentum == 0 ? at::TensorList() : at::TensorList(buffers),
                  options.weight_decay, options.momentum, options.lr, options.dampening, options.nesterov,
                  options.maximize, is_first);
}

// LibTorch's kernel for 16 bits on the CPU (2.11; PyTorch's issue 191763) leaves blocks of 16 elements as they are. It
// computes in float32, and so does this, on copies; what is kept is rounded to 16 bits as there.
void run_in_float32(const SgdOptions& options, const Parameters& parameters, const Parameters& gradients,
                    const Parameters& buffers, bool is_first) {
  const Parameters wide = in_float32(parameters);
  const Parameters wide_buffers = options.momentum == 0 ? Parameters() : in_float32(buffers);
  run_kernel(options, wide, in_float32(gradients), wide_buffers, is_first);
  at::_foreach_copy_(parameters, wide);
  if (options.momentum != 0) at::_foreach_copy_(buffers, wide_buffers);
}

}  // namespace

void SgdKernel::check(const Options& options) {
  require_option(options.lr >= 0, name, "lr", options.lr, "a number from 0 on");
  require_option(options.momentum >= 0, name, "momentum", options.momentum, "a number from 0 on");
  require_option(options.weight_decay >= 0, name, "weight_decay", options.weight_decay, "a number from 0 on");
  require_option(options.dampening == options.dampening, name, "dampening", options.dampening, "a number");
  if (options.nesterov && (options.momentum <= 0 || options.dampening != 0)) {
    throw UsageError("sgd: nesterov needs a momentum above 0 and a dampening of 0");
  }
}

void SgdKernel::update(const Options& options, KernelLists<1> lists) {
  const auto apply = [&](const Parameters& parameters, const Parameters& gradients, Parameters& buffers,
                         bool is_first) {
    if (parameters.empty()) return;
    const auto run = is_half_on_cpu(parameters.front()) ? run_in_float32 : run_kernel;
    run(options, parameters, gradients, buffers, is_first);
  };
  auto& buffers = lists.states[0];
  if (options.momentum == 0) return apply(lists.parameters, lists.gradients, buffers, false);
  // The kernel takes a gradient for the first buffer, of all its parameters or of none.
  struct Part {
    Parameters parameters, gradients, buffers;
  } first, later;
  bool some_first = false;
  for (const auto& buffer : buffers) some_first = some_first || !buffer.defined();
  if (!some_first) return apply(lists.parameters, lists.gradients, buffers, false);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    Part& part = buffers[i].defined() ? later : first;
    if (!buffers[i].defined()) buffers[i] = at::empty_like(lists.parameters[i], at::MemoryFormat::Preserve);
    part.parameters.push_back(lists.parameters[i]);
    part.gradients.push_back(lists.gradients[i]);
    part.buffers.push_back(buffers[i]);
  }
  apply(first.parameters, first.gradients, first.buffers, true);
  apply(later.parameters, later.gradients, later.buffers, false);
}

namespace {

SgdOptions sgd_options(const SgdGroup& group, SgdOptions own) {
  take(own.lr, group.lr);
  take(own.momentum, group.momentum);
  take(own.dampening, group.dampening);
  take(own.weight_decay, group.weight_decay);
  take(own.nesterov, group.nesterov);
  take(own.maximize, group.maximize);
  return own;
}

}  // namespace

std::shared_ptr<FusedSgd> sgd(Parameters parameters, SgdOptions options) {
  return of_one_group<FusedSgd>(std::move(parameters), options);
}
std::shared_ptr<FusedSgd> sgd(std::vector<SgdGroup> groups, SgdOptions options) {
  return of_groups<FusedSgd>(std::move(groups), options, sgd_options);
}
std::shared_ptr<FusedSgd> sgd(torch::nn::Module& module, NamedGroups<SgdGroup> groups, SgdOptions options) {
  return sgd(groups_by_name("sgd", module, std::move(groups)), options);
}

}  // namespace troupe::optim
