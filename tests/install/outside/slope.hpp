// Learns y = 3 x.
#pragma once

#include <troupe/troupe.hpp>

#include <torch/torch.h>

#include <cmath>
#include <iostream>
#include <memory>

struct SlopeOptions {
  double lr = 0.1;
};
TROUPE_OPTIONS(SlopeOptions, (lr, "learning rate"))

class Slope : public troupe::ModuleWith<SlopeOptions> {
 public:
  explicit Slope(const SlopeOptions& options) : ModuleWith(options) {
    layer_ = register_module("layer", torch::nn::Linear(1, 1));
    example_input_array = torch::zeros({1, 1});
  }
  torch::Tensor forward(torch::Tensor x) override { return layer_(x); }
  troupe::StepOutput training_step(const troupe::Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    return torch::mse_loss(layer_(x), y);
  }
  troupe::Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), options().lr); }
  troupe::DataLoaders train_dataloader() override {
    const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
    return troupe::DataLoader(std::make_shared<troupe::TensorDataset>(x, 3 * x), {.batch_size = 8, .shuffle = true});
  }
  void on_fit_end() override { std::cout << "slope " << std::lround(layer_->weight.item<double>()) << std::endl; }

 private:
  torch::nn::Linear layer_{nullptr};
};
