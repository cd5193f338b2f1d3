// Manual optimization in whole runs, held against loops written by hand.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Manual : public TwoLayers {
 public:
  Manual() { automatic_optimization = false; }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    auto [first_optimizer, second_optimizer] = optimizers<2>();
    {
      const auto toggled = first_optimizer.toggle_model();
      EXPECT_FALSE(second->weight.requires_grad());
      first_optimizer.zero_grad();
      manual_backward(error(batch));
      clip_gradients(*first_optimizer, 0.5);
      first_optimizer.step();
    }
    EXPECT_TRUE(second->weight.requires_grad());
    second_optimizer.zero_grad();
    manual_backward(error(batch));
    second_optimizer.step();
    if (batch_idx == 4) lr_schedulers().at(0)->step();
    return {};
  }
  Optimizers configure_optimizers() override;
  void on_before_optimizer_step(torch::optim::Optimizer&, int64_t optimizer_idx) override {
    steps.push_back(optimizer_idx);
  }
  void on_after_backward() override { ++backwards; }
  std::vector<int64_t> steps;
  int backwards = 0;
};

Optimizers Manual::configure_optimizers() {
  auto one = std::make_shared<torch::optim::SGD>(first->parameters(), 0.1);
  auto two = std::make_shared<torch::optim::SGD>(second->parameters(), 0.1);
  return {{one, two}, {{.scheduler = std::make_shared<Halving>(one)}}};
}

TEST_F(Optimization, ManualOptimizationIsWhatTheUserWrote) {
  const auto model = fit(std::make_shared<Manual>());
  TwoLayers expected;
  torch::optim::SGD first(expected.first->parameters(), 0.1), second(expected.second->parameters(), 0.1);
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (int64_t i = 0; i < 5; ++i) {
      const auto [x, y] = data_.batch(i, 8);
      expected.zero_grad();
      expected.error(x, y).backward();
      torch::nn::utils::clip_grad_norm_(expected.first->parameters(), 0.5);
      first.step();
      expected.zero_grad();
      expected.error(x, y).backward();
      second.step();
    }
    static_cast<torch::optim::SGDOptions&>(first.param_groups()[0].options()).lr(0.05);
  }
  EXPECT_EQ(trainer_->global_step(), 20);
  EXPECT_EQ(model->backwards, 20);
  EXPECT_THAT(std::vector<int64_t>(model->steps.begin(), model->steps.begin() + 4), ElementsAre(0, 1, 0, 1));
  expect_equal(*model, expected, 1e-12);
}

TEST_F(Optimization, OptionsOfAutomaticOptimizationAreRefusedInManual) {
  EXPECT_THAT(error_of_fit(std::make_shared<Manual>(), {.gradient_clip_val = 1.0}), HasSubstr("clip_gradients"));
  EXPECT_THAT(error_of_fit(std::make_shared<Manual>(), {.accumulate_grad_batches = 2}),
              HasSubstr("n-th training_step"));
}

class ManualCallsInAutomatic : public TwoLayers {
 public:
  StepOutput training_step(const Batch& batch, int64_t) override {
    manual_backward(error(batch));
    return {};
  }
};

TEST_F(Optimization, ManualCallsNeedManualOptimization) {
  EXPECT_THAT(error_of_fit(std::make_shared<ManualCallsInAutomatic>()), HasSubstr("automatic_optimization = false"));
}

}  // namespace
}  // namespace troupe
