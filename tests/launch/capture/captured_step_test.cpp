// Steps that are captured, against the same steps that are not: equal to the bit.
#include "tests/launch/capture/captured.hpp"

namespace troupe {
namespace {

namespace F = torch::nn::functional;

DataLoader images(int64_t samples, int64_t batch_size, torch::IntArrayRef shape) {
  torch::manual_seed(1);
  std::vector<int64_t> sizes = {samples};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  return {std::make_shared<TensorDataset>(torch::randn(sizes), torch::randint(10, {samples})),
          {.batch_size = batch_size, .shuffle = true}};
}

struct Mlp : Module {
  explicit Mlp(double dropout = 0) : dropout(dropout) {
    first = register_module("first", torch::nn::Linear(20, 16));
    second = register_module("second", torch::nn::Linear(16, 10));
  }
  torch::Tensor forward(torch::Tensor x) override {
    return second(torch::dropout(torch::relu(first(x)), dropout, is_training()));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto loss = F::cross_entropy(forward(x), y);
    log("loss", loss, {.on_epoch = true});
    return loss;
  }
  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.01}); }

  double dropout;
  torch::nn::Linear first{nullptr}, second{nullptr};
};

TEST_F(CapturedStep, IsThatOfAPerceptron) {
  expect_captured([] { return std::make_shared<Mlp>(); }, images(70, 8, {20}), options());
}

TEST_F(CapturedStep, DrawsWhatThePlainStepDraws) {
  expect_captured([] { return std::make_shared<Mlp>(0.3); }, images(70, 8, {20}), options());
}

}  // namespace
}  // namespace troupe
