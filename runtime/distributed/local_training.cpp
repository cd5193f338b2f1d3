#include "troupe/runtime/distributed/local_training.hpp"

#include "troupe/runtime/distributed/wide_type.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"

#include <torch/types.h>
#include <torch/utils.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace troupe {

namespace {

constexpr const char* outer_key = "outer";
constexpr const char* exchanged_prefix = "outer.weights.";
constexpr const char* momentum_prefix = "outer.momentum.";
constexpr const char* own_prefix = "local.";

// Copies a saved tensor into one that is in use, if there is one.
void load_into(torch::Tensor& target, const torch::Tensor* saved, const std::string& name) {
  if (!saved) return;
  if (saved->sizes() != target.sizes() || saved->scalar_type() != target.scalar_type()) {
    throw CheckpointError("the checkpoint's " + name + " does not fit the parameter");
  }
  target.copy_(*saved);
}

}  // namespace

void LocalTraining::add(const Tensors& parameters) {
  for (const auto& [name, tensor] : parameters) {
    const auto is_known = [&](const Parameter& each) { return each.tensor.is_same(tensor); };
    if (std::ranges::any_of(parameters_, is_known)) continue;
    parameters_.push_back({name, tensor, tensor.detach().clone(), {}});
  }
}

void LocalTraining::count_step() {
  ++steps_since_;
  if (steps_since_ >= options_.steps) exchange();
}

// --- The exchange ---

// Parameters that travel in one message: of one type and device.
std::vector<std::vector<std::size_t>> LocalTraining::buckets() const {
  std::vector<std::vector<std::size_t>> all;
  int64_t bytes = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& tensor = parameters_[i].tensor;
    const auto is_like = [&](const torch::Tensor& other) {
      return other.scalar_type() == tensor.scalar_type() && other.device() == tensor.device();
    };
    const auto size = static_cast<int64_t>(tensor.nbytes());
    if (all.empty() || !is_like(parameters_[all.back().front()].tensor) || bytes + size > options_.bucket_bytes) {
      all.emplace_back();
      bytes = 0;
    }
    all.back().push_back(i);
    bytes += size;
  }
  return all;
}

torch::Tensor LocalTraining::moved(const Parameter& parameter) const {
  const auto type = wide_type(parameter.tensor);
  return (parameter.exchanged.to(type) - parameter.tensor.detach().to(type)).flatten();
}

// As torch.optim.SGD(nesterov=True) computes it: https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
void LocalTraining::step(Parameter& parameter, const torch::Tensor& mean) const {
  auto direction = mean.view(parameter.tensor.sizes());
  if (options_.momentum > 0) {
    if (!parameter.momentum.defined()) parameter.momentum = torch::zeros_like(direction);
    parameter.momentum.mul_(options_.momentum).add_(direction);
    direction = direction.add(parameter.momentum, options_.momentum);
  }
  const auto before = parameter.exchanged.to(direction.scalar_type());
  parameter.exchanged.copy_(before.sub(direction, options_.lr));
  parameter.tensor.detach().copy_(parameter.exchanged);
}

void LocalTraining::exchange() {
  if (steps_since_ == 0) return;
  show_own();
  const torch::NoGradGuard no_gradients;
  const auto workers = peers_.place().world_size;
  for (const auto& bucket : buckets()) {
    std::vector<torch::Tensor> parts;
    for (const auto i : bucket) parts.push_back(moved(parameters_[i]));
    auto sum = torch::cat(parts);
    const auto type = sum.scalar_type();
    if (options_.compression == GradientCompression::fp16) sum = sum.to(torch::kHalf);
    if (options_.compression == GradientCompression::bf16) sum = sum.to(torch::kBFloat16);
    peers_.all_reduce(sum, c10d::ReduceOp::SUM);
    const auto mean = sum.to(type).div_(workers);
    int64_t at = 0;
    for (const auto i : bucket) {
      const int64_t size = parameters_[i].tensor.numel();
      step(parameters_[i], mean.narrow(0, at, size));
      at += size;
    }
  }
  peers_.broadcast(buffers_);
  steps_since_ = 0;
}

// --- The mean ---

void LocalTraining::show_mean() {
  if (steps_since_ == 0 || shows_mean()) return;
  const torch::NoGradGuard no_gradients;
  const auto workers = peers_.place().world_size;
  for (const auto& bucket : buckets()) {
    std::vector<torch::Tensor> parts;
    for (const auto i : bucket) {
      const auto& tensor = parameters_[i].tensor;
      own_.push_back({tensor, tensor.detach().clone()});
      parts.push_back(tensor.detach().to(wide_type(tensor)).flatten());
    }
    auto mean = torch::cat(parts);
    peers_.all_reduce(mean, c10d::ReduceOp::SUM);
    mean.div_(workers);
    int64_t at = 0;
    for (const auto i : bucket) {
      const auto tensor = parameters_[i].tensor.detach();
      tensor.copy_(mean.narrow(0, at, tensor.numel()).view(tensor.sizes()));
      at += tensor.numel();
    }
  }
  for (const auto& buffer : buffers_) own_.push_back({buffer, buffer.clone()});
  peers_.broadcast(buffers_);
}

void LocalTraining::show_own() {
  const torch::NoGradGuard no_gradients;
  for (const auto& each : std::exchange(own_, {})) each.tensor.detach().copy_(each.value);
}

void LocalTraining::adopt_mean() {
  show_mean();
  if (!shows_mean()) return;
  own_.clear();
  const torch::NoGradGuard no_gradients;
  for (auto& parameter : parameters_) parameter.exchanged.copy_(parameter.tensor.detach());
  steps_since_ = 0;
}

torch::Tensor LocalTraining::own(const torch::Tensor& tensor) const {
  const auto kept = std::ranges::find_if(own_, [&](const Kept& each) { return each.tensor.is_same(tensor); });
  return kept == own_.end() ? tensor.detach() : kept->value;
}

// --- State ---

void LocalTraining::append_shared(Checkpoint& checkpoint) const {
  checkpoint.metadata[outer_key] = {{"steps_since_exchange", steps_since_}};
  for (const auto& each : parameters_) {
    if (steps_since_ > 0) checkpoint.tensors.emplace_back(exchanged_prefix + each.name, each.exchanged);
    if (each.momentum.defined()) checkpoint.tensors.emplace_back(momentum_prefix + each.name, each.momentum);
  }
}

void LocalTraining::append_own(Checkpoint& state) const {
  if (steps_since_ == 0) return;
  for (const auto& each : parameters_) state.tensors.emplace_back(own_prefix + each.name, own(each.tensor));
}

void LocalTraining::load(const Checkpoint& checkpoint, const Checkpoint* own) {
  const torch::NoGradGuard no_gradients;
  if (checkpoint.metadata.contains(outer_key)) {
    const StateReader reader(checkpoint.metadata, "the checkpoint");
    steps_since_ = reader.object(outer_key).count("steps_since_exchange");
  }
  for (auto& each : parameters_) {
    each.exchanged.copy_(each.tensor.detach());
    load_into(each.exchanged, checkpoint.find(exchanged_prefix + each.name), exchanged_prefix + each.name);
    const auto name = momentum_prefix + each.name;
    if (const auto* saved = checkpoint.find(name); saved && options_.momentum > 0) {
      each.momentum = torch::zeros_like(each.tensor.detach(), wide_type(each.tensor));
      load_into(each.momentum, saved, name);
    }
    auto parameter = each.tensor.detach();
    if (own) load_into(parameter, own->find(own_prefix + each.name), own_prefix + each.name);
  }
}

// --- Gradients ---

void LocalGradients::contribute_nothing() {
  for (auto& parameter : parameters_) {
    if (parameter.requires_grad() && !parameter.grad().defined()) {
      parameter.mutable_grad() = torch::zeros_like(parameter.detach());
    }
  }
}

}  // namespace troupe
