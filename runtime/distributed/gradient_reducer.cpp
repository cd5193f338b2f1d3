#include "troupe/runtime/distributed/gradient_reducer.hpp"

#include "troupe/runtime/distributed/gradient_announcement.hpp"
#include "troupe/runtime/profile/phase_clock.hpp"

#include <torch/autograd.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace troupe {

namespace {

// bfloat16 in the manner of c10d's own hook for float16.
class Bf16Hook : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  explicit Bf16Hook(const c10::intrusive_ptr<c10d::ProcessGroup>& group) : CppCommHookInterface(group) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    auto compressed = bucket.getBufferRef().to(torch::kBFloat16).div_(state_->getSize());
    std::vector<torch::Tensor> tensors{compressed};
    auto work = state_->allreduce(tensors);
    auto whole = bucket.getBufferRef();
    return work->getFuture()->then(
        [whole](c10::ivalue::Future& future) {
          const auto& result = future.value();
          const auto reduced = result.isTensorList() ? result.toTensorVector().front() : result.toTensor();
          whole.copy_(reduced);
          return c10::IValue(whole);
        },
        c10::TensorType::get());
  }
};

// Buckets come in the same order on all workers, and whatever a worker sends for one goes out on this thread: after the
// last bucket of a pass all are ended, in that order.
class PowerSgdHook : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  PowerSgdHook(const c10::intrusive_ptr<c10d::ProcessGroup>& group, PowerSgd& power_sgd,
               std::unordered_map<const void*, std::string> names)
      : CppCommHookInterface(group), power_sgd_(power_sgd), names_(std::move(names)) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    if (bucket.getIndex() == 0) waiting_.clear();  // of a pass that failed
    if (!power_sgd_.compresses()) {
      if (bucket.isLast()) power_sgd_.count_step();
      std::vector<torch::Tensor> tensors{bucket.getBufferRef().div_(state_->getSize())};
      return state_->allreduce(tensors)->getFuture();
    }
    std::vector<PowerSgd::Gradient> gradients;
    const auto parameters = bucket.getParameters();
    const auto places = bucket.getGradients();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      gradients.push_back({names_.at(parameters[i].unsafeGetTensorImpl()), places[i]});
    }
    power_sgd_.begin(std::move(gradients), state_);
    const auto& buffer = bucket.getBufferRef();
    const auto devices = buffer.is_cuda() ? std::vector<c10::Device>{buffer.device()} : std::vector<c10::Device>{};
    const auto future = c10::make_intrusive<c10::ivalue::Future>(c10::TensorType::get(), devices);
    waiting_.emplace_back(future, buffer);
    if (bucket.isLast()) {
      const PhaseScope phase(Phase::reduction);
      power_sgd_.finish();
      for (auto& [each, result] : std::exchange(waiting_, {})) each->markCompleted(result);
    }
    return future;
  }

 private:
  PowerSgd& power_sgd_;
  std::unordered_map<const void*, std::string> names_;  // of the parameters
  std::vector<std::pair<c10::intrusive_ptr<c10::ivalue::Future>, torch::Tensor>> waiting_;
};

}  // namespace

GradientReducer::GradientReducer(const Parameters& parameters, Peers& peers, const ReducerOptions& options)
    : looks_for_unused_(options.find_unused_parameters) {
  std::unordered_map<std::size_t, std::string> names;
  for (const auto& [name, parameter] : parameters) {
    names.emplace(parameters_.size(), name);
    parameters_.push_back(parameter);
  }
  const std::vector<bool> sparse(parameters_.size(), false);
  auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(
      parameters_,
      {static_cast<std::size_t>(options.first_bucket_bytes), static_cast<std::size_t>(options.bucket_bytes)}, sparse);
  // Gradients come in about the reverse of the order of the layers.
  std::ranges::reverse(buckets);
  reducer_ = std::make_shared<c10d::Reducer>(
      parameters_, std::move(buckets), peers.group(), sparse, options.bucket_bytes, looks_for_unused_,
      /*gradient_as_bucket_view=*/true, std::move(names), options.first_bucket_bytes,
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>{});
  for (const auto& parameter : parameters_) {  // the reducer keeps the accumulators
    densify_gradients(*torch::autograd::impl::grad_accumulator(parameter));
  }
  // It calls its logger without a look whether it has one, when a step leaves out other parameters than the one before.
  logger_ = std::make_shared<c10d::Logger>(reducer_);
  reducer_->set_logger(logger_);
  if (options.compression == GradientCompression::fp16) {
    reducer_->register_builtin_comm_hook(c10d::BuiltinCommHookType::FP16_COMPRESS);
  } else if (options.compression == GradientCompression::bf16) {
    reducer_->register_comm_hook(std::make_unique<Bf16Hook>(peers.group()));
  } else if (options.compression == GradientCompression::powersgd) {
    std::unordered_map<const void*, std::string> by_address;
    for (const auto& [name, parameter] : parameters) by_address.emplace(parameter.unsafeGetTensorImpl(), name);
    reducer_->register_comm_hook(
        std::make_unique<PowerSgdHook>(peers.group(), *options.power_sgd, std::move(by_address)));
  }
}

GradientReducer::~GradientReducer() = default;

void GradientReducer::begin() {
  reducer_->prepare_for_forward();
  if (reducer_->should_rebuild_buckets()) reducer_->rebuild_buckets();
  const auto is_open = [](const torch::Tensor& parameter) { return parameter.grad().defined(); };
  if (std::ranges::any_of(parameters_, is_open)) adopt_gradients();
}

// Gradients of an open window move into the buckets. c10d divides those that lie there by the number of workers and
// multiplies all others by its reciprocal: with three workers the bits would depend on whether the window was resumed.
void GradientReducer::adopt_gradients() {
  const torch::NoGradGuard no_gradients;
  for (const auto& bucket : reducer_->get_grad_buckets(/*return_zero_tensors=*/false)) {
    const auto parameters = bucket.getParameters();
    const auto places = bucket.getGradients();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      auto& gradient = parameters[i].mutable_grad();
      if (!gradient.defined() || gradient.is_alias_of(places[i])) continue;
      places[i].copy_(gradient);
      gradient = places[i];
    }
  }
}

void GradientReducer::prepare(const torch::Tensor& loss) {
  reducer_->prepare_for_backward(looks_for_unused_ ? std::vector<torch::Tensor>{loss} : std::vector<torch::Tensor>{});
}

void GradientReducer::contribute_nothing() {
  std::vector<torch::Tensor> zeros;
  for (const auto& parameter : parameters_) zeros.push_back(torch::zeros_like(parameter));
  reducer_->prepare_for_backward(parameters_);
  torch::autograd::backward(parameters_, zeros);
}

}  // namespace troupe
