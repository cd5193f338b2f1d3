// What the tests of strategies share.
#pragma once

#include "tests/support/ddp.hpp"

namespace troupe {

inline DataLoader loader_of(int64_t count, int64_t batch_size, bool shuffle = true) {
  return DataLoader(samples(count), {.batch_size = batch_size, .shuffle = shuffle});
}

inline TrainerOptions options_with(const TempDir& dir, Strategy strategy, int64_t devices) {
  auto options = exact(dir, devices);
  options.strategy = strategy;
  return options;
}

// Two optimizers that take turns at their parameters, automatic and by hand.
class Pair : public Module {
 public:
  explicit Pair(bool by_hand) {
    automatic_optimization = !by_hand;
    a_ = register_module("a", torch::nn::Linear(4, 3));
    b_ = register_module("b", torch::nn::Linear(3, 2));
  }
  torch::Tensor loss(const Batch& batch) { return torch::mse_loss(b_(torch::tanh(a_(batch[0]))), batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t, int64_t) override {
    if (automatic_optimization) return loss(batch);
    for (const std::size_t i : {0, 1}) {
      auto own = optimizer(i);
      own.zero_grad();
      manual_backward(loss(batch));
      own.step();
    }
    return {};
  }
  Optimizers configure_optimizers() override {
    return {optim::sgd(a_->parameters(), {.lr = 0.05, .momentum = 0.9}), optim::adamw(b_->parameters(), {.lr = 0.01})};
  }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten());
    return torch::cat(flat);
  }

 private:
  torch::nn::Linear a_{nullptr}, b_{nullptr};
};
struct SwitchOptions {
  bool by_hand = false;
};
TROUPE_OPTIONS(SwitchOptions, (by_hand, "manual optimization"))
struct AnyPair : Pair {
  using Options = SwitchOptions;
  explicit AnyPair(SwitchOptions options) : Pair(options.by_hand) {}
};

}  // namespace troupe
