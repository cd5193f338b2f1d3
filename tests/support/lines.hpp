// A small module and its data, for tests of whole runs.
#pragma once

#include "tests/support/temp_dir.hpp"
#include "troupe/troupe.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>

namespace troupe {

struct LineOptions {
  double lr = 0.1;
};
TROUPE_OPTIONS(LineOptions, (lr, "learning rate"))

/// y = weight x + bias, trained with SGD on the squared error.
class Line : public ModuleWith<LineOptions> {
 public:
  explicit Line(LineOptions options = {}) : ModuleWith(options) {
    layer_ = register_module("layer", torch::nn::Linear(1, 1));
  }
  torch::Tensor forward(torch::Tensor x) override { return layer_(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = error(batch);
    log("train_loss", loss, {.on_step = true, .on_epoch = true, .prog_bar = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", error(batch));
    return {};
  }
  StepOutput test_step(const Batch& batch, int64_t) override {
    log("test_loss", error(batch));
    return {};
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), options().lr); }

  torch::Tensor error(const Batch& batch) {
    auto [x, y] = batch.get<2>();
    return torch::mse_loss(forward(x), y);
  }
  double weight() const { return layer_->weight.item<double>(); }
  double bias() const { return layer_->bias.item<double>(); }

 protected:
  torch::nn::Linear layer_{nullptr};
};

/// 64 points of y = 2 x + 1.
inline DataLoader points(int64_t batch_size = 16, bool shuffle = true) {
  const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
  return {std::make_shared<TensorDataset>(x, 2 * x + 1), {.batch_size = batch_size, .shuffle = shuffle}};
}

/// Two epochs below `dir`, with a seed, without the bar and the summary.
inline TrainerOptions quiet(const TempDir& dir) {
  TrainerOptions options{.max_epochs = 2, .seed = 7, .default_root_dir = dir.path()};
  options.enable_progress_bar = options.enable_model_summary = false;
  return options;
}

/// What `run` throws, as text; empty when it throws nothing.
inline std::string error_of(const std::function<void()>& run) {
  try {
    run();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace troupe
