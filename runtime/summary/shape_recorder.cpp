#include "troupe/runtime/summary/shape_recorder.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <memory>

namespace troupe {
namespace {

// RecordFunction's callbacks are plain functions without user data, so the recorder at work is found through its
// thread.
thread_local ShapeRecorder* recorder_at_work = nullptr;

class CallbackGuard {
 public:
  CallbackGuard(ShapeRecorder* recorder, at::RecordFunctionCallback callback)
      : handle_(at::addThreadLocalCallback(callback)) {
    recorder_at_work = recorder;
  }
  ~CallbackGuard() {
    at::removeCallback(handle_);
    recorder_at_work = nullptr;
  }
  CallbackGuard(const CallbackGuard&) = delete;
  CallbackGuard& operator=(const CallbackGuard&) = delete;

 private:
  at::CallbackHandle handle_;
  at::RecordFunctionGuard enabled_{true};
};

void collect_tensors(const c10::IValue& value, std::vector<torch::Tensor>& out) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) out.push_back(value.toTensor());
  } else if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) collect_tensors(element, out);
  } else if (value.isTensorList()) {
    for (const torch::Tensor& tensor : value.toTensorVector()) {
      if (tensor.defined()) out.push_back(tensor);
    }
  } else if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) collect_tensors(element, out);
  }
}

template <typename Values>
std::vector<torch::Tensor> tensors_in(const Values& values) {
  std::vector<torch::Tensor> out;
  for (const c10::IValue& value : values) collect_tensors(value, out);
  return out;
}

}  // namespace

/// Travels from an operator's start to its end.
struct ShapeRecorder::Claim : at::ObserverContext {
  std::vector<std::size_t> uses;
};

ShapeRecorder::ShapeRecorder(const torch::nn::Module& root) {
  add_tensors(root);
}

void ShapeRecorder::add_tensors(const torch::nn::Module& module) {
  if (!uses_of_.try_emplace(&module).second) return;
  for (const auto& tensor : module.parameters(/*recurse=*/false))
    owners_[tensor.unsafeGetTensorImpl()].push_back(&module);
  for (const auto& tensor : module.buffers(/*recurse=*/false)) {
    if (tensor.defined()) owners_[tensor.unsafeGetTensorImpl()].push_back(&module);
  }
  for (const auto& child : module.children()) {
    if (child) add_tensors(*child);
  }
}

void ShapeRecorder::watch(const std::function<void()>& function) {
  CallbackGuard guard(this, at::RecordFunctionCallback(on_start, on_end)
                                .needsInputs(true)
                                .needsOutputs(true)
                                .scopes({at::RecordScope::FUNCTION}));
  function();
}

std::unique_ptr<at::ObserverContext> ShapeRecorder::on_start(const at::RecordFunction& function) {
  return recorder_at_work ? recorder_at_work->claim(function) : nullptr;
}

std::unique_ptr<at::ObserverContext> ShapeRecorder::claim(const at::RecordFunction& function) {
  if (inside_claim_) return nullptr;
  std::vector<const torch::nn::Module*> claimants;
  std::vector<const c10::TensorImpl*> taken;
  std::optional<std::vector<int64_t>> in;
  for (const torch::Tensor& tensor : tensors_in(function.inputs())) {
    auto found = owners_.find(tensor.unsafeGetTensorImpl());
    if (found == owners_.end()) {
      if (!in) in = tensor.sizes().vec();
    } else if (!found->second.empty() && std::ranges::find(taken, found->first) == taken.end()) {
      taken.push_back(found->first);
      claimants.push_back(found->second.front());
    }
  }
  if (!in || claimants.empty()) return nullptr;
  for (const auto* tensor : taken) owners_[tensor].pop_front();
  auto context = std::make_unique<Claim>();
  for (std::size_t i = 0; i < claimants.size(); ++i) {
    bool repeated = std::find(claimants.begin(), claimants.begin() + i, claimants[i]) != claimants.begin() + i;
    if (repeated) continue;
    context->uses.push_back(uses_.size());
    uses_of_[claimants[i]].push_back(uses_.size());
    uses_.push_back({*in, std::nullopt});
  }
  inside_claim_ = true;
  return context;
}

void ShapeRecorder::on_end(const at::RecordFunction& function, at::ObserverContext* context) {
  if (!recorder_at_work || !context) return;
  recorder_at_work->inside_claim_ = false;
  auto outputs = tensors_in(function.outputs());
  if (outputs.empty()) return;
  for (auto use : static_cast<Claim*>(context)->uses) recorder_at_work->uses_[use].out = outputs[0].sizes().vec();
}

std::pair<const ShapeRecorder::Use*, const ShapeRecorder::Use*> ShapeRecorder::span_of(
    const torch::nn::Module& module) const {
  std::pair<const Use*, const Use*> span{nullptr, nullptr};
  auto extend = [&](const Use* first, const Use* last) {
    // Uses lie in one vector in the order of execution, so addresses compare like times.
    if (first && (!span.first || first < span.first)) span.first = first;
    if (last && (!span.second || last > span.second)) span.second = last;
  };
  if (auto found = uses_of_.find(&module); found != uses_of_.end()) {
    for (auto use : found->second) extend(&uses_[use], &uses_[use]);
  }
  for (const auto& child : module.children()) {
    if (!child) continue;
    auto [first, last] = span_of(*child);
    extend(first, last);
  }
  return span;
}

}  // namespace troupe
