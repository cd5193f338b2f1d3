// The pieces of a step that a module can override, and LBFGS.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class EveryOther : public TwoLayers {
 public:
  void optimizer_step(int64_t, int64_t batch_idx, torch::optim::Optimizer& optimizer, int64_t,
                      const OptimizerClosure& closure) override {
    if (batch_idx % 2 == 0) optimizer.step(closure);
  }
};

TEST_F(Optimization, AStepThatIsLeftOutDoesNotCount) {
  fit(std::make_shared<EveryOther>());
  EXPECT_EQ(trainer_->global_step(), 6);
}

class WithLbfgs : public TwoLayers {
 public:
  Optimizers configure_optimizers() override {
    return torch::optim::LBFGS(parameters(), torch::optim::LBFGSOptions(0.5).max_iter(3));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    ++calls;
    return error(batch);
  }
  int calls = 0;
};

TEST_F(Optimization, LbfgsCallsTheClosureSeveralTimes) {
  const auto model = fit(std::make_shared<WithLbfgs>());
  TwoLayers expected;
  torch::optim::LBFGS optimizer(expected.parameters(), torch::optim::LBFGSOptions(0.5).max_iter(3));
  for (int64_t i = 0; i < 10; ++i) {
    const auto [x, y] = data_.batch(i % 5, 8);
    optimizer.step([&, x = x, y = y] {
      expected.zero_grad();
      const auto loss = expected.error(x, y);
      loss.backward();
      return loss;
    });
  }
  EXPECT_GT(model->calls, 20);
  expect_equal(*model, expected, 1e-12);
  EXPECT_THAT(error_of_fit(std::make_shared<WithLbfgs>(), {.precision = Precision::float16_mixed}), HasSubstr("LBFGS"));
  EXPECT_THAT(error_of_fit(std::make_shared<WithLbfgs>(), {.accumulate_grad_batches = 2}),
              AllOf(HasSubstr("several times a step"), HasSubstr("accumulate_grad_batches = 2")));
}

}  // namespace
}  // namespace troupe
