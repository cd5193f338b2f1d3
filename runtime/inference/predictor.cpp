#include "troupe/runtime/inference/predictor.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/device/cuda_libraries.hpp"
#include "troupe/runtime/inference/forward_capture.hpp"
#include "troupe/runtime/precision/autocast.hpp"
#include "troupe/runtime/precision/convert.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"
#include "troupe/runtime/summary/example_input.hpp"

#include <c10/util/StringUtil.h>
#include <torch/cuda.h>
#include <torch/utils.h>

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

namespace troupe {

namespace {

// Of one shape: plain, recorded, recorded, replayed.
constexpr int64_t calls_to_replay = 4;

std::string shape_text(const std::vector<int64_t>& shape) {
  return "[" + joined_as(shape, [](int64_t size) { return size < 0 ? std::string("any") : std::to_string(size); }) +
         "]";
}

// Samples of the example, again from the first if there are too few; and numbers in their place that show whether
// forward depends on them, from a generator of their own.
torch::Tensor warm_up_input(const torch::Tensor& example, int64_t batch_size, int64_t round) {
  const auto rows = torch::arange(batch_size, torch::TensorOptions(example.device()).dtype(torch::kLong));
  auto input = example.index_select(0, (rows + round).remainder(example.size(0)));
  if (round == 0 || !input.is_floating_point()) return input;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(round));
  return torch::rand(input.sizes(), generator, torch::kFloat32).to(input.options());
}

}  // namespace

class Predictor::Impl {
 public:
  Impl(std::shared_ptr<Module> module, PredictorOptions options)
      : module_(std::move(module)), options_(std::move(options)) {
    if (!module_) throw UsageError("a Predictor needs a module, and was given a null pointer");
    freeze();
    take_example();
    if (options_.max_batch < 0) {
      throw UsageError("max_batch is " + std::to_string(options_.max_batch) + "; it is at least 1, or 0 for no bound");
    }
    capture_ = std::make_unique<inference::ForwardCapture>(
        *module_, [this](const torch::Tensor& input) { return module_->forward(input); },
        inference::ForwardCaptureOptions{capture_way(), options_.exact, options_.max_shapes,
                                         options_.max_callers == 0 ? usable_processors() : options_.max_callers});
    warm_up(options_.warm_up);
  }

  torch::Tensor predict(const torch::Tensor& input) const {
    check(input);
    const torch::NoGradGuard no_gradients;
    const AutocastOff no_autocast(device_);
    if (options_.max_batch == 0 || input.dim() == 0 || input.size(0) <= options_.max_batch)
      return capture_->compute(input);
    std::vector<torch::Tensor> results;
    for (const auto& piece : input.split(options_.max_batch)) {
      results.push_back(capture_->compute(piece));
      if (results.back().dim() == 0 || results.back().size(0) != piece.size(0)) {
        throw UsageError("forward gives " + shape_text(results.back().sizes().vec()) + " for " +
                         std::to_string(piece.size(0)) +
                         " samples: results without an axis of the batch cannot be joined; set max_batch = 0");
      }
    }
    return torch::cat(results);
  }

  void warm_up(std::span<const int64_t> batch_sizes) const {
    if (batch_sizes.empty()) return;
    if (!example_.defined() || example_.dim() == 0) {
      throw UsageError(
          "a warm-up needs an example: set example_input_array in the module's constructor, or "
          "PredictorOptions::example_input");
    }
    for (const int64_t size : batch_sizes) {
      if (size < 1) throw UsageError("warm_up has the batch size " + std::to_string(size) + "; it is at least 1");
      for (int64_t round = 0; round < calls_to_replay; ++round) predict(warm_up_input(example_, size, round));
    }
  }

  const torch::Tensor& example_input() const { return example_; }
  const std::vector<int64_t>& input_shape() const { return shape_; }
  torch::Device device() const { return device_; }
  CapturedSteps captured() const {
    auto report = capture_->report();
    if (!reason_.empty()) report.refusals.push_back(reason_);
    return report;
  }

 private:
  void freeze() {
    if (options_.dtype) {
      if (!torch::isFloatingType(*options_.dtype)) {
        throw UsageError(c10::str("dtype is ", *options_.dtype, "; parameters can be Float, Double, BFloat16 or Half"));
      }
      set_floating_type(*module_, *options_.dtype);
    }
    if (options_.device) {
      check_is_there(*options_.device);
      module_->to(*options_.device);
    }
    module_->freeze();
    device_ = module_->device();
  }

  static void check_is_there(torch::Device device) {
    if (!device.is_cuda() || torch::cuda::is_available()) return;
    const auto problem = cuda_libraries_problem();
    throw UsageError("device is " + device.str() + ", but " + (problem.empty() ? "no GPU was found" : problem) +
                     "; leave it out for the CPU");
  }

  CaptureStep capture_way() {
    if (device_.is_cpu() || options_.capture == CaptureStep::off) return options_.capture;
    reason_ = "forward is not captured: the device is " + device_.str() + ", and replays are on the CPU";
    if (options_.capture == CaptureStep::require) throw UsageError(reason_);
    return CaptureStep::off;
  }

  void take_example() {
    if (options_.example_input.defined()) module_->example_input_array = options_.example_input;
    example_ = troupe::example_input(*module_);
    if (!example_.defined()) return;
    shape_ = example_.sizes().vec();
    for (const int64_t axis : options_.dynamic_axes) {
      if (axis < 0 || axis >= example_.dim()) {
        throw UsageError("dynamic_axes names axis " + std::to_string(axis) + ", and the example has the shape " +
                         shape_text(shape_));
      }
      shape_[static_cast<std::size_t>(axis)] = -1;
    }
  }

  bool has_shape(const torch::Tensor& input) const {
    const auto sizes = input.sizes();
    if (sizes.size() != shape_.size()) return false;
    for (std::size_t i = 0; i < shape_.size(); ++i) {
      if (shape_[i] >= 0 && shape_[i] != sizes[i]) return false;
    }
    return true;
  }

  void check(const torch::Tensor& input) const {
    if (!input.defined()) throw UsageError("the input is an undefined tensor");
    if (input.device() != device_) {
      throw UsageError("the input is on " + input.device().str() + ", and the model is on " + device_.str());
    }
    if (input.layout() != torch::kStrided) {
      throw UsageError(c10::str("the input has the layout ", input.layout(), ", and the model takes Strided; ",
                                "input.to_dense() makes it so"));
    }
    if (!example_.defined()) return;
    if (input.scalar_type() != example_.scalar_type()) {
      throw UsageError(
          c10::str("the input is ", input.scalar_type(), ", and the model takes ", example_.scalar_type()));
    }
    if (!has_shape(input)) {
      throw UsageError("the input has the shape " + shape_text(input.sizes().vec()) + ", and the model takes " +
                       shape_text(shape_));
    }
  }

  std::shared_ptr<Module> module_;
  PredictorOptions options_;
  torch::Device device_ = torch::kCPU;
  torch::Tensor example_;
  std::vector<int64_t> shape_;
  std::string reason_;  // against all capture
  std::unique_ptr<inference::ForwardCapture> capture_;
};

Predictor::Predictor(std::shared_ptr<Module> module, PredictorOptions options)
    : impl_(std::make_unique<Impl>(std::move(module), std::move(options))) {}
Predictor::~Predictor() = default;
Predictor::Predictor(Predictor&&) noexcept = default;
Predictor& Predictor::operator=(Predictor&&) noexcept = default;

torch::Tensor Predictor::predict(const torch::Tensor& input) const {
  return impl_->predict(input);
}

void Predictor::warm_up(std::span<const int64_t> batch_sizes) const {
  impl_->warm_up(batch_sizes);
}

const torch::Tensor& Predictor::example_input() const {
  return impl_->example_input();
}

const std::vector<int64_t>& Predictor::input_shape() const {
  return impl_->input_shape();
}

torch::Device Predictor::device() const {
  return impl_->device();
}

CapturedSteps Predictor::captured() const {
  return impl_->captured();
}

}  // namespace troupe
