#include "troupe/runtime/distributed/sharded_optimizer.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/modules/optim/optimizer_name.hpp"
#include "troupe/modules/support/step_recorder.hpp"
#include "troupe/runtime/checkpoint/optimizer_access.hpp"
#include "troupe/runtime/distributed/gradient_announcement.hpp"

#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <type_traits>
#include <typeinfo>

namespace troupe {

namespace {

using Grouped = std::pair<std::size_t, torch::Tensor>;  // the group of the optimizer

bool treats_elements_alone(torch::optim::Optimizer& optimizer) {
  bool alone = false;
  with_access(optimizer,
              [&](const char*, const auto& access) { alone = !std::remove_cvref_t<decltype(access)>::mixes_elements; });
  return alone;
}

std::string class_of(const torch::optim::Optimizer& optimizer) {
  const auto& groups = optimizer.param_groups();
  const bool is_own = !groups.empty() && dynamic_cast<const optim::KernelOptions*>(&groups.front().options());
  return is_own ? optim::optimizer_name(optimizer) : full_type_name(typeid(optimizer));
}

int64_t bytes_of(const torch::Tensor& tensor) {
  return static_cast<int64_t>(tensor.nbytes());
}

}  // namespace

ShardedOptimizer::ShardedOptimizer(std::size_t index, torch::optim::Optimizer& optimizer, Peers& peers,
                                   ShardingOptions options, std::shared_ptr<ParameterBlocks> blocks)
    : index_(index), optimizer_(optimizer), peers_(peers), options_(std::move(options)), blocks_(std::move(blocks)) {
  if (!treats_elements_alone(optimizer)) {
    throw UsageError("strategy = " + name_of(options_.strategy) +
                     " divides parameters into parts, which an optimizer must treat element by element: "
                     "optimizer " +
                     std::to_string(index) + " (" + class_of(optimizer) +
                     ") does not, or is not known to; use one that does, such as SGD or AdamW, or strategy = ddp");
  }
  refresh();
}

ShardedOptimizer::~ShardedOptimizer() {
  const torch::NoGradGuard no_gradients;
  if (blocks_) blocks_->close();
  for (auto& parameter : parameters_) {
    if (parameter.accumulator) parameter.accumulator->del_post_hook(parameter.hook);
    parameter.whole.set_data(parameter.whole.detach().clone());
    parameter.whole.mutable_grad().reset();
  }
}

void ShardedOptimizer::refresh() {
  groups_.resize(optimizer_.param_groups().size());
  std::vector<Grouped> fresh;
  for (std::size_t group = 0; group < optimizer_.param_groups().size(); ++group) {
    for (const auto& parameter : optimizer_.param_groups()[group].params()) {
      if (!known_.contains(parameter.unsafeGetTensorImpl())) fresh.emplace_back(group, parameter);
    }
  }
  if (!fresh.empty()) take(fresh);
  for (auto& bucket : buckets_) bucket.expected = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    auto& parameter = parameters_[i];
    if (!parameter.whole.requires_grad()) continue;
    buckets_[parameter.bucket].expected += 1;
    if (parameter.accumulator) continue;
    parameter.accumulator = torch::autograd::impl::grad_accumulator(parameter.whole);
    densify_gradients(*parameter.accumulator);
    parameter.hook = parameter.accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [this, i](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
          arrive(i);
          return outputs;
        }));
  }
}

// Buckets of one type and device, and with fsdp of one block, from the last parameter to the first, since gradients
// come in about that order.
void ShardedOptimizer::take(const std::vector<Grouped>& fresh) {
  const torch::NoGradGuard no_gradients;
  const std::size_t before = parameters_.size();
  std::vector<Grouped> left(fresh.rbegin(), fresh.rend());
  const auto block_of = [&](const torch::Tensor& tensor) { return options_.block_of.at(tensor.unsafeGetTensorImpl()); };
  while (!left.empty()) {
    const int64_t limit = buckets_.empty() ? options_.first_bucket_bytes : options_.bucket_bytes;
    const torch::Tensor like = left.front().second;
    std::vector<Grouped> bucket, others;
    int64_t bytes = 0;
    bool is_full = false;  // what comes later is for later buckets, however small: its gradient comes later too
    for (auto& each : left) {
      const bool is_alike = each.second.scalar_type() == like.scalar_type() && each.second.device() == like.device();
      const bool has_room =
          blocks_ ? block_of(each.second) == block_of(like) : bucket.empty() || bytes + bytes_of(each.second) <= limit;
      is_full |= !blocks_ && is_alike && !has_room;
      const bool fits = is_alike && has_room && !is_full;
      if (fits) bytes += bytes_of(each.second);
      (fits ? bucket : others).push_back(std::move(each));
    }
    make_bucket(bucket);
    left = std::move(others);
  }
  // The optimizer's groups: the parts that are there, in the order of their parameters.
  std::vector<std::vector<torch::Tensor>> shards(groups_.size());
  for (const auto& [group, tensor] : fresh) {
    const std::size_t i = known_.at(tensor.unsafeGetTensorImpl());
    groups_[group].push_back(i);
    if (parameters_[i].shard.defined()) shards[group].push_back(parameters_[i].shard);
  }
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    auto& held = optimizer_.param_groups()[group].params();
    std::erase_if(held, [&](const torch::Tensor& tensor) {
      const auto found = known_.find(tensor.unsafeGetTensorImpl());
      return found->second >= before && parameters_[found->second].whole.is_same(tensor);
    });
    held.insert(held.end(), shards[group].begin(), shards[group].end());
  }
}

void ShardedOptimizer::make_bucket(const std::vector<Grouped>& parameters) {
  const auto workers = peers_.place().world_size, rank = peers_.place().global_rank;
  int64_t elements = 0;
  for (const auto& [group, tensor] : parameters) elements += tensor.numel();
  const int64_t part = (elements + workers - 1) / workers;
  const auto options = parameters.front().second.options().requires_grad(false);
  Bucket bucket;
  bucket.weights = torch::zeros({part * workers}, options);
  if (!divides_gradients()) bucket.gradients = torch::zeros({part * workers}, options);
  bucket.shard_gradients = torch::zeros({part}, options);
  int64_t offset = 0;
  for (const auto& [group, tensor] : parameters) {
    bucket.weights.narrow(0, offset, tensor.numel()).view(tensor.sizes()).copy_(tensor.detach());
    offset += tensor.numel();
  }
  bucket.shard_weights = bucket.weights.narrow(0, part * rank, part);
  if (blocks_) bucket.shard_weights = bucket.shard_weights.clone();
  offset = 0;
  for (const auto& [group, tensor] : parameters) {
    const int64_t size = tensor.numel();
    const auto place = bucket.weights.narrow(0, offset, size).view(tensor.sizes());
    Parameter parameter{tensor, group, buckets_.size(), offset, 0, 0};
    parameter.whole.set_data(place);
    parameter.begin = std::clamp<int64_t>(part * rank - offset, 0, size);
    parameter.end = std::clamp<int64_t>(part * (rank + 1) - offset, 0, size);
    if (parameter.end > parameter.begin) {
      parameter.shard =
          bucket.shard_weights.narrow(0, offset + parameter.begin - part * rank, parameter.end - parameter.begin);
      known_.emplace(parameter.shard.unsafeGetTensorImpl(), parameters_.size());
    }
    known_.emplace(tensor.unsafeGetTensorImpl(), parameters_.size());
    bucket.parameters.push_back(parameters_.size());
    parameters_.push_back(std::move(parameter));
    offset += size;
  }
  if (blocks_) bucket.block = blocks_->add(bucket.weights, bucket.shard_weights);
  buckets_.push_back(std::move(bucket));
}

std::vector<torch::Tensor> ShardedOptimizer::parameters() const {
  std::vector<torch::Tensor> all;
  for (const auto& group : groups_) {
    for (const std::size_t i : group) all.push_back(parameters_[i].whole);
  }
  return all;
}

// --- A step ---

void ShardedOptimizer::begin() {
  if (blocks_) blocks_->begin_pass(index_);
}

void ShardedOptimizer::prepare(const torch::Tensor&) {
  for (auto& bucket : buckets_) {
    bucket.arrived = 0;
    bucket.is_launched = false;
  }
  for (auto& parameter : parameters_) {
    // Where a step has not used up the average of an earlier pass, both count.
    if (parameter.shard.defined() && parameter.shard.grad().defined()) parameter.kept = parameter.shard.grad().clone();
  }
  is_prepared_ = true;
}

void ShardedOptimizer::arrive(std::size_t i) {
  if (StepRecorder::current()) return;  // a step that is recorded is this worker's alone; it is announced afterwards
  if (divides_gradients() && !is_prepared_) return;  // a pass of user code's: the next one counts it too
  auto& parameter = parameters_[i];
  auto& bucket = buckets_[parameter.bucket];
  if (bucket.is_launched) return;
  take_gradient(bucket, parameter);
  if (!is_prepared_) return;
  bucket.arrived += 1;
  launch_complete();
}

// What autograd or user code has put somewhere else goes where the bucket wants it.
void ShardedOptimizer::take_gradient(Bucket& bucket, Parameter& parameter) {
  auto& gradient = parameter.whole.mutable_grad();
  if (!gradient.defined()) return;
  const torch::NoGradGuard no_gradients;
  if (!bucket.gradients.defined()) {
    bucket.gradients = torch::zeros({bucket.weights.numel()}, bucket.shard_weights.options());
  }
  const auto place = bucket.gradients.narrow(0, parameter.offset, parameter.whole.numel());
  if (gradient.const_data_ptr() != place.const_data_ptr()) {
    const auto view = place.view(parameter.whole.sizes());
    view.copy_(gradient);
    gradient = view;
  }
  if (divides_gradients()) gradient.reset();
}

// In the same order on all workers: that of the buckets, or, since blocks are gathered in between, that in which they
// are complete.
void ShardedOptimizer::launch_complete() {
  for (auto& bucket : buckets_) {
    if (bucket.is_launched) continue;
    if (bucket.arrived >= bucket.expected && (bucket.expected > 0 || !blocks_)) {
      launch(bucket);
      if (bucket.block) blocks_->leave(*bucket.block);
    } else if (!blocks_) {
      return;
    }
  }
}

void ShardedOptimizer::launch(Bucket& bucket) {
  bucket.is_launched = true;
  if (bucket.expected == 0) return;  // frozen, everywhere
  const torch::NoGradGuard no_gradients;
  if (divides_gradients()) {
    // Those of a window that another strategy has begun, and this pass has not added to.
    for (const std::size_t i : bucket.parameters) take_gradient(bucket, parameters_[i]);
    if (!bucket.gradients.defined()) {
      bucket.gradients = torch::zeros({bucket.weights.numel()}, bucket.shard_weights.options());
    }
  }
  const auto type = options_.compression == GradientCompression::fp16   ? torch::kFloat16
                    : options_.compression == GradientCompression::bf16 ? torch::kBFloat16
                                                                        : bucket.gradients.scalar_type();
  bucket.gradients.div_(static_cast<double>(peers_.place().world_size));
  bucket.sent = bucket.gradients.to(type);
  bucket.received = bucket.shard_gradients.to(type);  // the same memory where the type is the same
  bucket.work = peers_.begin_reduce_scatter(bucket.received, bucket.sent);
  if (!divides_gradients()) return;
  // One is reduced while the gradients of the next one come, and no more are whole.
  if (on_its_way_) complete(buckets_[*on_its_way_]);
  on_its_way_ = static_cast<std::size_t>(&bucket - buckets_.data());
}

void ShardedOptimizer::complete(Bucket& bucket) {
  if (!bucket.work) return;
  const torch::NoGradGuard no_gradients;
  bucket.work->wait();
  if (!bucket.received.is_same(bucket.shard_gradients)) bucket.shard_gradients.copy_(bucket.received);
  bucket.work.reset();
  bucket.sent.reset();
  bucket.received.reset();
  if (divides_gradients()) {
    bucket.gradients.reset();
  } else {
    bucket.gradients.zero_();  // they have been counted
  }
  for (const std::size_t i : bucket.parameters) {
    auto& parameter = parameters_[i];
    if (!parameter.shard.defined()) continue;
    auto& gradient = parameter.shard.mutable_grad();
    if (!parameter.whole.requires_grad()) {
      gradient.reset();
      continue;
    }
    const int64_t begin =
        parameter.offset + parameter.begin - bucket.shard_gradients.numel() * peers_.place().global_rank;
    const auto average = bucket.shard_gradients.narrow(0, begin, parameter.end - parameter.begin);
    if (parameter.kept.defined()) average.add_(parameter.kept);
    parameter.kept.reset();
    gradient = average;
  }
}

void ShardedOptimizer::finish() {
  if (!is_prepared_) return;
  is_prepared_ = false;
  for (auto& bucket : buckets_) {
    if (!bucket.is_launched) launch(bucket);
  }
  for (auto& bucket : buckets_) {
    complete(bucket);
    bucket.is_launched = false;
  }
  on_its_way_.reset();
  if (blocks_) blocks_->end_pass();
}

std::vector<std::pair<torch::Tensor, torch::Tensor>> ShardedOptimizer::waiting_parts() const {
  const torch::NoGradGuard no_gradients;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> parts;
  for (const auto& parameter : parameters_) {
    const bool has_part = parameter.shard.defined();
    if (has_part && !parameter.shard.grad().defined()) continue;
    auto part = torch::zeros(parameter.whole.sizes(), parameter.whole.options().requires_grad(false));
    if (has_part) part.view({-1}).slice(0, parameter.begin, parameter.end).copy_(parameter.shard.grad());
    parts.emplace_back(parameter.whole, std::move(part));
  }
  return parts;
}

void ShardedOptimizer::put_back(const torch::Tensor& whole, const torch::Tensor& part) {
  const auto& parameter = parameters_[known_.at(whole.unsafeGetTensorImpl())];
  if (!parameter.shard.defined()) return;
  parameter.shard.mutable_grad() =
      part.reshape({-1}).slice(0, parameter.begin, parameter.end).to(whole.device()).clone();
}

void ShardedOptimizer::contribute_nothing() {
  prepare({});
  if (blocks_) {
    blocks_->repeat_pass([&](std::size_t block) {
      const auto bucket = std::ranges::find(buckets_, std::optional(block), &Bucket::block);
      if (bucket != buckets_.end()) launch(*bucket);
      blocks_->leave(block);
    });
  }
  finish();
}

void ShardedOptimizer::gather_parameters() {
  if (blocks_) return blocks_->drop_all();
  const torch::NoGradGuard no_gradients;
  const auto rank = peers_.place().global_rank;
  const auto end = [](Bucket& bucket) {
    bucket.work->wait();
    bucket.work.reset();
    bucket.sent.reset();
  };
  Bucket* before = nullptr;  // one is on its way while the next one begins, so that two copies of parts are there
  for (auto& bucket : buckets_) {
    const int64_t part = bucket.shard_gradients.numel();
    bucket.sent = bucket.weights.narrow(0, part * rank, part).clone();
    bucket.work = peers_.begin_all_gather(bucket.weights, bucket.sent);
    if (before) end(*before);
    before = &bucket;
  }
  if (before) end(*before);
}

torch::Tensor ShardedOptimizer::whole_norm(const torch::Tensor& norm_of_parts) const {
  auto squared = norm_of_parts.to(torch::kFloat64).square();
  peers_.all_reduce(squared, c10d::ReduceOp::SUM);
  return squared.sqrt().to(norm_of_parts.scalar_type());
}

}  // namespace troupe
