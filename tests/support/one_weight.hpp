// A module with one weight, whose numbers can be worked out by hand.
#pragma once

#include "tests/support/lines.hpp"

#include <torch/torch.h>

#include <memory>
#include <utility>
#include <vector>

namespace troupe {

struct OneWeightOptions {
  double rate = 1;
};
TROUPE_OPTIONS(OneWeightOptions, (rate, "learning rate"))

/// The weight w, 1 at first; its loss is the mean of w x, so that its gradient is the mean of x. SGD.
class OneWeight : public ModuleWith<OneWeightOptions> {
 public:
  explicit OneWeight(OneWeightOptions options = {}) : ModuleWith(options) {
    w = register_parameter("w", torch::ones({1}));
  }
  StepOutput training_step(const Batch& batch, int64_t) override { return (w * batch[0]).mean(); }
  Optimizers configure_optimizers() override { return torch::optim::SGD({w}, options().rate); }
  double weight() const { return w.item<double>(); }

  torch::Tensor w;
};

/// A loader of the numbers given, in order.
inline DataLoader numbers(std::vector<float> values, int64_t batch_size = 1) {
  return {std::make_shared<TensorDataset>(torch::tensor(std::move(values))), {.batch_size = batch_size}};
}

/// One epoch without checkpoints and sinks.
inline TrainerOptions one_epoch(const TempDir& dir, Precision precision = Precision::float32) {
  auto options = quiet(dir);
  options.max_epochs = 1;
  options.precision = precision;
  options.accelerator = Accelerator::cpu;
  options.num_threads = 1;
  options.enable_checkpointing = options.logger = false;
  return options;
}

}  // namespace troupe
