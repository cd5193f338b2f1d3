// Steps with manual optimization that are captured, against the same steps that are not: equal to the bit.
#include "tests/launch/capture/captured.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

namespace F = torch::nn::functional;

struct ByHand : Module {
  explicit ByHand(double dropout_in = 0) : dropout(dropout_in) {
    first = register_module("first", torch::nn::Linear(20, 16));
    second = register_module("second", torch::nn::Linear(16, 10));
    automatic_optimization = false;
  }
  torch::Tensor loss_of(const Batch& batch) {
    const auto scores = second(torch::dropout(torch::relu(first(batch[0])), dropout, is_training()));
    return F::cross_entropy(scores, batch[1]);
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = loss_of(batch);
    log("loss", loss, {.on_epoch = true});
    auto handle = optimizer();
    handle.zero_grad();
    manual_backward(loss);
    handle.step();
    return loss;
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.01}); }

  double dropout;
  torch::nn::Linear first{nullptr}, second{nullptr};
};

class ManualCapture : public CapturedStep {};

template <class M, class... Arguments>
auto by_hand(Arguments... arguments) {
  return [=] { return std::make_shared<M>(arguments...); };
}

DataLoader rows(int64_t samples, int64_t batch_size) {
  torch::manual_seed(1);
  return {std::make_shared<TensorDataset>(torch::randn({samples, 20}), torch::randint(10, {samples})),
          {.batch_size = batch_size, .shuffle = true}};
}

TEST_F(ManualCapture, IsThatOfOneOptimizer) {
  expect_captured(by_hand<ByHand>(), rows(70, 8), options());
  expect_captured(by_hand<ByHand>(0.3), rows(70, 8), options());
}

}  // namespace
}  // namespace troupe
