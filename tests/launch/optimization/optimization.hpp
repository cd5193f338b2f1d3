// Runs on a small model that is held against loops written by hand.
#pragma once

#include "tests/support/lines.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// 40 samples of two features in float64.
struct Data {
  torch::Tensor x, y;
  Data() {
    const torch::NoGradGuard no_gradients;
    x = torch::linspace(-1, 1, 80, torch::kFloat64).reshape({40, 2});
    y = (x.select(1, 0) * 2 - x.select(1, 1) + 1).unsqueeze(1);
  }
  DataLoader loader(int64_t batch_size) const {
    return {std::make_shared<TensorDataset>(x, y), {.batch_size = batch_size}};
  }
  std::pair<torch::Tensor, torch::Tensor> batch(int64_t i, int64_t size) const {
    const auto end = std::min<int64_t>(40, (i + 1) * size);
    return {x.slice(0, i * size, end), y.slice(0, i * size, end)};
  }
};

/// Two layers, so that each can have an optimizer of its own.
class TwoLayers : public Module {
 public:
  TwoLayers() {
    first = register_module("first", torch::nn::Linear(2, 3));
    second = register_module("second", torch::nn::Linear(3, 1));
    to(torch::kFloat64);
    torch::NoGradGuard no_gradients;
    double value = 0.1;
    for (auto& parameter : parameters()) {
      for (int64_t i = 0; i < parameter.numel(); ++i) parameter.view(-1)[i] = value = std::fmod(value * 1.7 + 0.3, 1.0);
    }
  }
  torch::Tensor forward(torch::Tensor x) override { return second(torch::tanh(first(x))); }
  torch::Tensor error(const torch::Tensor& x, const torch::Tensor& y) { return torch::mse_loss(forward(x), y); }
  torch::Tensor error(const Batch& batch) { return error(batch[0], batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t) override { return error(batch); }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }

  std::vector<torch::Tensor> values() const {
    std::vector<torch::Tensor> all;
    for (const auto& parameter : parameters()) all.push_back(parameter.detach().clone());
    return all;
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

inline void expect_equal(const TwoLayers& a, const TwoLayers& b, double tolerance = 0) {
  const auto x = a.values(), y = b.values();
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE((x[i] - y[i]).abs().max().item<double>(), tolerance) << "parameter " << i;
  }
}

class Optimization : public ::testing::Test {
 protected:
  /// Two epochs, if `options` does not say another number.
  template <class M>
  std::shared_ptr<M> fit(std::shared_ptr<M> module, int64_t batch_size = 8, TrainerOptions options = {},
                         RunArguments arguments = {}) {
    if (!options.max_epochs) options.max_epochs = 2;
    options.seed = 7;
    options.default_root_dir = dir_.path();
    options.enable_progress_bar = options.enable_model_summary = false;
    trainer_ = std::make_unique<Trainer>(options);
    return trainer_->fit(std::move(module), data_.loader(batch_size), {}, std::move(arguments));
  }
  /// Fits with a checkpoint after `step` steps of optimizers, and gives what goes on from there.
  template <class M>
  RunArguments stopped_at(int64_t step, std::shared_ptr<M> module) {
    const auto checkpoint = std::make_shared<ModelCheckpoint>(
        ModelCheckpointOptions{.filename = "middle", .save_top_k = -1, .every_n_train_steps = step});
    fit(std::move(module), 8, {.max_epochs = 3, .callbacks = {checkpoint}});
    return {.ckpt_path = (trainer_->run_dir() / "checkpoints/middle.safetensors").string()};
  }
  template <class M>
  std::string error_of_fit(std::shared_ptr<M> module, TrainerOptions options = {}) {
    return error_of([&] { fit(module, 8, options); });
  }

  TempDir dir_;
  Data data_;
  std::unique_ptr<Trainer> trainer_;
};

/// Halves the learning rates.
class Halving : public LRScheduler {
 public:
  using LRScheduler::LRScheduler;
  void step() override {
    ++count;
    for (auto& group : optimizer()->param_groups()) group.options().set_lr(group.options().get_lr() / 2);
  }
  nlohmann::json state_dict() const override { return {{"count", count}}; }
  void load_state_dict(const nlohmann::json& state) override { count = state.at("count"); }
  int count = 0;
};

}  // namespace troupe
