// A small network and its data, for tests of runs with several workers.
#pragma once

#include "tests/support/lines.hpp"

#include <torch/torch.h>

#include <vector>

namespace troupe {

struct NetOptions {
  double lr = 0.05;
  int64_t hidden = 7;
};
TROUPE_OPTIONS(NetOptions, (lr, "learning rate"), (hidden, "units"))

class Net : public ModuleWith<NetOptions> {
 public:
  explicit Net(NetOptions options = {}) : ModuleWith(options) {
    namespace nn = torch::nn;
    net_ = register_module("net",
                           nn::Sequential(nn::Linear(4, options.hidden), nn::Tanh(), nn::Linear(options.hidden, 2)));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = error(batch);
    log("train_loss", loss, {.on_step = false, .on_epoch = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", error(batch));
    log("largest", batch[1].max(), {.reduce_fx = Reduce::max});
    log("samples", static_cast<double>(batch.size()), {.reduce_fx = Reduce::sum});
    return {};
  }
  StepOutput predict_step(const Batch& batch, int64_t) override { return {{"y", forward(batch[0])}}; }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = options().lr, .momentum = 0.9}); }
  torch::Tensor error(const Batch& batch) { return torch::mse_loss(forward(batch[0]), batch[1]); }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten());
    return torch::cat(flat);
  }

 protected:
  torch::nn::Sequential net_{nullptr};
};

/// `count` samples of a fixed function, in float64.
inline std::shared_ptr<Dataset> samples(int64_t count) {
  const auto x = torch::arange(count * 4, torch::kFloat64).reshape({count, 4}).mul(0.37).sin();
  const auto y = torch::stack({x.select(1, 0) * x.select(1, 1), x.select(1, 2) - x.select(1, 3)}, 1);
  return std::make_shared<TensorDataset>(x, y);
}

inline TrainerOptions exact(const TempDir& dir, int64_t devices = 1) {
  auto options = quiet(dir);
  options.precision = Precision::float64;
  options.accelerator = Accelerator::cpu;
  options.devices = devices;
  options.num_threads = 1;
  options.collective_timeout = 120;
  options.max_epochs = 3;
  return options;
}

inline double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace troupe
