// The network of the matrix of combinations, its data, and the loop by hand that its runs are held against.
#pragma once

#include "tests/launch/matrix/combinations.hpp"
#include "troupe/troupe.hpp"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <csignal>
#include <optional>
#include <string>
#include <vector>

namespace troupe::matrix {

constexpr int64_t epochs = 3, batches = 5, batch_size = 48;        // of all ranks together
constexpr int64_t sample_count = 4 * batch_size + batch_size / 2;  // the last batch is short
constexpr double clip = 0.5, decay = 0.9, backbone_lr = 0.02;
constexpr int64_t unfreeze_at = 1;
constexpr double initial_scale = 65536;  // of float16

struct PartsOptions {
  std::string optimization = "automatic";
  int64_t window = 1;  ///< batches per step by hand
};
TROUPE_OPTIONS(PartsOptions, (optimization, "automatic, several, manual or manual_several"),
               (window, "batches per step"))

/// Asks for the end of the run in batch 1 of epoch 1, which is within a window of two or more.
inline std::atomic<bool> asks_to_stop = false, raises_signal = false;

/// Three layers; the first is the backbone. With several optimizers the last has its own.
class Parts : public ModuleWith<PartsOptions> {
 public:
  explicit Parts(PartsOptions options = {}) : ModuleWith(options) {
    backbone = register_module("backbone", torch::nn::Linear(4, 7));
    head = register_module("head", torch::nn::Linear(7, 5));
    tail = register_module("tail", torch::nn::Linear(5, 2));
    automatic_optimization = !options.optimization.starts_with("manual");
  }
  bool has_several() const { return options().optimization.ends_with("several"); }

  torch::Tensor forward(torch::Tensor x) override { return tail(torch::tanh(head(torch::tanh(backbone(x))))); }
  torch::Tensor error(const torch::Tensor& x, const torch::Tensor& y) { return torch::mse_loss(forward(x), y); }

  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto loss = error(batch[0], batch[1]);
    log("train_loss", loss, {.on_step = false, .on_epoch = true});
    if (!automatic_optimization) step_by_hand(loss, batch_idx);
    return loss;
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx, int64_t) override {
    return training_step(batch, batch_idx);
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", error(batch[0], batch[1]));
    log("plateau", 1.0);
    return {};
  }
  std::optional<int64_t> capture_kind(int64_t batch_idx) const override {
    if (automatic_optimization) return std::nullopt;
    return batch_idx + 1 == batches ? -1 : batch_idx % options().window;
  }
  Optimizers configure_optimizers() override { return optimizers_of(*this, has_several()); }
  void on_train_start() override {
    for (const auto& parameter : parameters()) start.push_back(parameter.detach().clone());
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    if (current_epoch() != 1 || batch_idx != 1 || global_rank() != 0) return;
    if (asks_to_stop) trainer().request_stop("enough");
    if (raises_signal) std::raise(SIGTERM);
  }

  static Optimizers optimizers_of(Parts& parts, bool several) {
    if (!several) return optim::sgd(trainable(parts), {.lr = 0.05, .momentum = 0.9});
    auto first = trainable(*parts.backbone);
    for (const auto& parameter : parts.head->parameters()) first.push_back(parameter);
    // A large eps: an element's first steps would else depend on the sign of its gradient alone, and on how it is
    // rounded.
    return {optim::sgd(first, {.lr = 0.05, .momentum = 0.9}),
            optim::adam(parts.tail->parameters(), {.lr = 0.03, .eps = 0.1})};
  }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten().to(torch::kFloat64));
    return torch::cat(flat);
  }

  std::vector<torch::Tensor> start;  ///< the weights that training began with
  torch::nn::Linear backbone{nullptr}, head{nullptr}, tail{nullptr};

 private:
  void step_by_hand(const torch::Tensor& loss, int64_t batch_idx) {
    const int64_t window = options().window;
    auto handles = optimizers();
    if (batch_idx % window == 0) {
      for (auto& handle : handles) handle.zero_grad();
    }
    manual_backward(loss / window);
    if ((batch_idx + 1) % window != 0 && batch_idx + 1 != batches) return;
    for (auto& handle : handles) {
      clip_gradients(*handle, clip);
      handle.step();
    }
  }
};

/// The numbers of a run's data; precisions other than 64-true take float32.
inline torch::ScalarType data_type(const Combination& c) {
  return c.precision == Precision::float64 ? torch::kFloat64 : torch::kFloat32;
}
inline torch::Tensor inputs() {
  return torch::arange(sample_count * 4, torch::kFloat64).reshape({sample_count, 4}).mul(0.37).sin();
}
inline torch::Tensor targets() {
  const auto x = inputs();
  return torch::stack({x.select(1, 0) * x.select(1, 1), x.select(1, 2) - x.select(1, 3)}, 1);
}

// --- By hand
// -----------------------------------------------------------------------------------------------------------

/// PyTorch's autocast, for as long as it lives.
class HandAutocast {
 public:
  explicit HandAutocast(Precision precision) {
    if (!is_mixed(precision)) return;
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, precision == Precision::float16_mixed ? at::kHalf : at::kBFloat16);
  }
  ~HandAutocast() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
  HandAutocast(const HandAutocast&) = delete;
  HandAutocast& operator=(const HandAutocast&) = delete;
};

/// What a run of one process with batches of `batch_size` makes of these weights, written with LibTorch alone.
class HandLoop {
 public:
  HandLoop(const Combination& c, const std::vector<torch::Tensor>& start)
      : c_(c), scale_(c.precision == Precision::float16_mixed ? initial_scale : 1) {
    const auto type = c.precision == Precision::bfloat16_true ? torch::kBFloat16 : data_type(c);
    parts_.to(type);
    x_ = inputs().to(type);
    y_ = targets().to(type);
    const torch::NoGradGuard no_gradients;
    const auto parameters = parts_.parameters();
    for (std::size_t i = 0; i < start.size(); ++i) parameters[i].copy_(start[i]);
    if (c.extra == Extra::finetuning) {
      for (auto& parameter : parts_.backbone->parameters()) parameter.set_requires_grad(false);
    }
    optimizers_ = Parts::optimizers_of(parts_, c.has_several());
  }

  torch::Tensor train() {
    const int64_t last = c_.extra == Extra::early_stopping ? 2 : epochs;
    for (int64_t epoch = 0; epoch < last; ++epoch) {
      if (c_.extra == Extra::finetuning) finetune(epoch);
      for (int64_t batch = 0; batch < batches; ++batch) c_.is_manual() ? by_hand(batch) : automatic(batch);
    }
    return c_.extra == Extra::averages ? flat(averages_) : parts_.weights();
  }

 private:
  void finetune(int64_t epoch) {
    if (epoch < unfreeze_at) return;
    if (epoch == unfreeze_at) {
      for (auto& parameter : parts_.backbone->parameters()) parameter.set_requires_grad(true);
      optimizers_[0].add_param_group(torch::optim::OptimizerParamGroup(parts_.backbone->parameters()));
    }
    const double lr = epoch == unfreeze_at ? backbone_lr : 2 * backbone_lr;
    optimizers_[0].param_groups().back().options().set_lr(lr);
  }

  torch::Tensor error(int64_t batch) {
    const int64_t begin = batch * batch_size, end = std::min(begin + batch_size, sample_count);
    const HandAutocast autocast(c_.precision);
    return parts_.error(x_.slice(0, begin, end), y_.slice(0, begin, end));
  }

  // The mean over the samples of the window, for each optimizer in turn.
  void automatic(int64_t batch) {
    const int64_t first = batch / c_.accumulate * c_.accumulate, end = std::min(first + c_.accumulate, batches);
    const auto size = [](int64_t b) { return std::min(batch_size, sample_count - b * batch_size); };
    double samples = 0;
    for (int64_t b = first; b < end; ++b) samples += static_cast<double>(size(b));
    for (std::size_t i = 0; i < optimizers_.size(); ++i) {
      const auto own = gradients_wanted(i);
      if (batch == first) zero(i);
      const auto loss = error(batch) * (static_cast<double>(size(batch)) / samples);
      (loss * scale_).backward({}, std::nullopt, false, own);
      if (batch + 1 == end) step(i);
    }
    if (batch + 1 == end) average();
  }

  void by_hand(int64_t batch) {
    if (batch % c_.accumulate == 0) {
      for (std::size_t i = 0; i < optimizers_.size(); ++i) zero(i);
    }
    (error(batch) / c_.accumulate * scale_).backward();
    if ((batch + 1) % c_.accumulate != 0 && batch + 1 != batches) return;
    for (std::size_t i = 0; i < optimizers_.size(); ++i) step(i);
    average();
  }

  std::vector<torch::Tensor> gradients_wanted(std::size_t i) const {
    std::vector<torch::Tensor> own;
    for (const auto& group : optimizers_[i].param_groups()) {
      for (const auto& parameter : group.params()) own.push_back(parameter);
    }
    return own;
  }
  void zero(std::size_t i) {
    for (auto& parameter : gradients_wanted(i)) parameter.mutable_grad().reset();
  }
  void step(std::size_t i) {
    const auto own = gradients_wanted(i);
    for (const auto& parameter : own) {
      ASSERT_TRUE(parameter.grad().isfinite().all().item<bool>());  // the scale is never too large here
      parameter.grad().div_(scale_);
    }
    torch::nn::utils::clip_grad_norm_(own, clip);
    optimizers_[i].step();
  }
  void average() {
    const torch::NoGradGuard no_gradients;
    const auto parameters = parts_.parameters();
    if (averages_.empty()) {
      for (const auto& parameter : parameters) averages_.push_back(parameter.detach().to(wide(parameter)).clone());
      return;
    }
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      averages_[i].mul_(decay).add_(parameters[i].to(wide(parameters[i])), 1 - decay);
    }
  }
  static torch::ScalarType wide(const torch::Tensor& tensor) {
    return tensor.scalar_type() == torch::kBFloat16 ? torch::kFloat32 : tensor.scalar_type();
  }
  torch::Tensor flat(const std::vector<torch::Tensor>& tensors) const {
    std::vector<torch::Tensor> all;
    for (const auto& tensor : tensors) all.push_back(tensor.flatten().to(torch::kFloat64));
    return torch::cat(all);
  }

  Combination c_;
  double scale_;
  Parts parts_;
  torch::Tensor x_, y_;
  Optimizers optimizers_;
  std::vector<torch::Tensor> averages_;
};

/// How far a run may end from the loop by hand, whose sums are in another order, as a part of the way from the start.
inline double tolerance(Precision precision) {
  if (precision == Precision::float64) return 1e-13;
  if (precision == Precision::float32) return 1e-5;
  if (precision == Precision::float16_mixed) return 1e-3;   // activations round by 2^-11
  if (precision == Precision::bfloat16_mixed) return 5e-3;  // by 2^-8
  return 0.1;                                               // bf16-true: so do weights, in each of 15 small steps
}

}  // namespace troupe::matrix
