#include "troupe/runtime/distributed/gradient_reducer.hpp"

#include <torch/autograd.h>
#include <torch/types.h>
#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/logger.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
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
  // It calls its logger without a look whether it has one, when a step leaves out other parameters than the one before.
  logger_ = std::make_shared<c10d::Logger>(reducer_);
  reducer_->set_logger(logger_);
  if (options.compression == GradientCompression::fp16) {
    reducer_->register_builtin_comm_hook(c10d::BuiltinCommHookType::FP16_COMPRESS);
  } else if (options.compression == GradientCompression::bf16) {
    reducer_->register_comm_hook(std::make_unique<Bf16Hook>(peers.group()));
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
      if (!gradient.defined() || gradient.is_sparse() || gradient.is_alias_of(places[i])) continue;
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
