#include "troupe/runtime/distributed/sync_batch_norm.hpp"

#include "troupe/base/failure.hpp"

#include <ATen/ops/batch_norm_native.h>
#include <ATen/ops/instance_norm_native.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <string>
#include <utility>

namespace troupe {

namespace {

thread_local Peers* sync_peers = nullptr;

// Along all dimensions but that of the channels.
std::vector<int64_t> reduced_dimensions(const torch::Tensor& x) {
  std::vector<int64_t> dimensions{0};
  for (int64_t d = 2; d < x.dim(); ++d) dimensions.push_back(d);
  return dimensions;
}

// A value of each channel in the shape of `x`.
torch::Tensor spread(const torch::Tensor& channels, const torch::Tensor& x) {
  std::vector<int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = channels.size(0);
  return channels.to(x.scalar_type()).view(shape);
}

// bfloat16 and half are too coarse for sums.
torch::Tensor in_full_precision(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat64 ? x : x.to(torch::kFloat32);
}

class SyncedNorm : public torch::autograd::Function<SyncedNorm> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& input,
                               const torch::Tensor& weight, const torch::Tensor& bias, torch::Tensor running_mean,
                               torch::Tensor running_var, double momentum, double eps, Peers* peers) {
    const auto x = in_full_precision(input);
    const auto dimensions = reduced_dimensions(x);
    const int64_t channels = x.size(1);
    const double count = channels == 0 ? 0 : static_cast<double>(x.numel()) / static_cast<double>(channels);
    const auto own_mean = x.mean(dimensions).to(torch::kFloat64);
    const auto own_var = x.var(dimensions, /*unbiased=*/false).to(torch::kFloat64);
    const auto own_count = torch::full({1}, count, own_mean.options());
    const auto all = peers->all_gather(torch::cat({own_mean, own_var, own_count}));
    const auto counts = all.narrow(1, 2 * channels, 1);
    const auto total = counts.sum();
    const auto means = all.narrow(1, 0, channels);
    const auto mean = (means * counts).sum(0) / total;
    const auto squares = ((all.narrow(1, channels, channels) + (means - mean).square()) * counts).sum(0);
    if (total.is_cpu() && total.item<double>() <= 1) {
      throw UsageError("batch norm needs more than one value a channel to train with, and all ranks together have " +
                       std::to_string(static_cast<int64_t>(total.item<double>())));
    }
    const auto inverse = (squares / total + eps).rsqrt();
    if (running_mean.defined()) running_mean.mul_(1 - momentum).add_(mean.to(running_mean.scalar_type()), momentum);
    if (running_var.defined()) {
      running_var.mul_(1 - momentum).add_((squares / (total - 1)).to(running_var.scalar_type()), momentum);
    }
    context->save_for_backward({input, weight, mean, inverse, total});
    context->saved_data["peers"] = reinterpret_cast<int64_t>(peers);
    context->saved_data["has_bias"] = bias.defined();
    auto output = (x - spread(mean, x)) * spread(inverse, x);
    if (weight.defined()) output = output * spread(weight, x);
    if (bias.defined()) output = output + spread(bias, x);
    return output.to(input.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto& input = saved[0];
    const auto& weight = saved[1];
    const auto& total = saved[4];
    auto* peers = reinterpret_cast<Peers*>(context->saved_data["peers"].toInt());
    const auto x = in_full_precision(input);
    const auto dy = gradients[0].to(x.scalar_type());
    const auto dimensions = reduced_dimensions(x);
    const auto normalized = (x - spread(saved[2], x)) * spread(saved[3], x);
    const auto sum = dy.sum(dimensions), sum_with_x = (dy * normalized).sum(dimensions);
    auto both = torch::stack({sum, sum_with_x}).to(torch::kFloat64);
    peers->all_reduce(both, c10d::ReduceOp::SUM);
    const auto means = both / total;
    auto dx = (dy - spread(means[0], x) - normalized * spread(means[1], x)) * spread(saved[3], x);
    if (weight.defined()) dx = dx * spread(weight, x);
    const bool has_bias = context->saved_data["has_bias"].toBool();
    return {dx.to(input.scalar_type()),
            weight.defined() ? sum_with_x.to(weight.scalar_type()) : torch::Tensor(),
            has_bias ? sum.to(weight.defined() ? weight.scalar_type() : x.scalar_type()) : torch::Tensor(),
            {},
            {},
            {},
            {},
            {}};
  }
};

using MaybeTensor = std::optional<at::Tensor>;

at::Tensor batch_norm(const at::Tensor& input, const MaybeTensor& weight, const MaybeTensor& bias,
                      const MaybeTensor& running_mean, const MaybeTensor& running_var, bool training, double momentum,
                      double eps, bool cudnn_enabled) {
  if (!sync_peers || !training) {
    return at::native::batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps,
                                  cudnn_enabled);
  }
  const auto given = [](const MaybeTensor& tensor) { return tensor.value_or(torch::Tensor()); };
  return SyncedNorm::apply(input, given(weight), given(bias), given(running_mean), given(running_var), momentum, eps,
                           sync_peers);
}

// LibTorch computes it as a batch norm of one sample, in which no other rank has a part.
at::Tensor instance_norm(const at::Tensor& input, const MaybeTensor& weight, const MaybeTensor& bias,
                         const MaybeTensor& running_mean, const MaybeTensor& running_var, bool use_input_stats,
                         double momentum, double eps, bool cudnn_enabled) {
  const SyncBatchNorm off(nullptr);
  return at::native::instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps,
                                   cudnn_enabled);
}

// For the rest of the process; without a SyncBatchNorm on the thread both do what LibTorch's do.
void stand_in_for_operators() {
  const auto make = [](c10::DispatchKey key) {
    torch::Library library(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
    library.impl("batch_norm", TORCH_FN(batch_norm));
    library.impl("instance_norm", TORCH_FN(instance_norm));
    return library;
  };
  static const torch::Library on_cpu = make(c10::DispatchKey::AutogradCPU);
  static const torch::Library on_cuda = make(c10::DispatchKey::AutogradCUDA);
}

}  // namespace

SyncBatchNorm::SyncBatchNorm(Peers* peers) : before_(sync_peers) {
  if (peers) stand_in_for_operators();
  sync_peers = peers;
}

SyncBatchNorm::~SyncBatchNorm() {
  sync_peers = before_;
}

}  // namespace troupe
