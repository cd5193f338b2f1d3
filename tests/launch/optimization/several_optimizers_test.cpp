// Several optimizers in whole runs, held against loops written by hand.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Alternating : public TwoLayers {
 public:
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    seen.push_back(optimizer_idx);
    EXPECT_EQ(first->weight.requires_grad(), optimizer_idx == 0);
    EXPECT_EQ(second->weight.requires_grad(), optimizer_idx == 1);
    return error(batch);
  }
  Optimizers configure_optimizers() override {
    return {std::make_shared<torch::optim::SGD>(first->parameters(), 0.1),
            std::make_shared<torch::optim::Adam>(second->parameters(), 0.01)};
  }
  std::vector<int64_t> seen;
};

TEST_F(Optimization, EveryOptimizerSeesEachBatch) {
  const auto model = fit(std::make_shared<Alternating>());
  TwoLayers expected;
  torch::optim::SGD first(expected.first->parameters(), 0.1);
  torch::optim::Adam second(expected.second->parameters(), 0.01);
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (int64_t i = 0; i < 5; ++i) {
      const auto [x, y] = data_.batch(i, 8);
      for (torch::optim::Optimizer* optimizer :
           {static_cast<torch::optim::Optimizer*>(&first), static_cast<torch::optim::Optimizer*>(&second)}) {
        expected.zero_grad();
        expected.error(x, y).backward();
        optimizer->step();
      }
    }
  }
  expect_equal(*model, expected);
  EXPECT_EQ(trainer_->global_step(), 20);
  EXPECT_TRUE(model->first->weight.requires_grad() && model->second->weight.requires_grad());
}

class TakingTurns : public Alternating {
 public:
  Optimizers configure_optimizers() override {
    return {{.optimizer = std::make_shared<torch::optim::SGD>(first->parameters(), 0.1), .frequency = 1},
            {.optimizer = std::make_shared<torch::optim::SGD>(second->parameters(), 0.1), .frequency = 3}};
  }
};

class FailingWhileToggled : public Alternating {
 public:
  StepOutput training_step(const Batch&, int64_t, int64_t) override { throw std::runtime_error("as it was to"); }
};

TEST_F(Optimization, AStepThatFailsLeavesNoParameterWithoutItsGradient) {
  const auto model = std::make_shared<FailingWhileToggled>();
  EXPECT_THAT(error_of_fit(model), HasSubstr("as it was to"));
  for (const auto& parameter : model->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST_F(Optimization, FrequenciesGiveEachItsBatchesInARow) {
  const auto model = fit(std::make_shared<TakingTurns>(), 8, {.max_epochs = 1});
  EXPECT_THAT(model->seen, ElementsAre(0, 1, 1, 1, 0));
  EXPECT_EQ(trainer_->global_step(), 5);
}

class WithoutIndex : public TwoLayers {
 public:
  Optimizers configure_optimizers() override {
    return {std::make_shared<torch::optim::SGD>(first->parameters(), 0.1),
            std::make_shared<torch::optim::SGD>(second->parameters(), 0.1)};
  }
};

TEST_F(Optimization, TwoOptimizersNeedAnIndex) {
  const auto model = std::make_shared<WithoutIndex>();
  EXPECT_THAT(error_of_fit(model), AllOf(HasSubstr("returned 2 optimizers"), HasSubstr("optimizer_idx")));
  expect_equal(*model, TwoLayers());
}

TEST_F(Optimization, ARunWithTwoOptimizersGoesOnAsIfItHadNotStopped) {
  const auto whole = fit(std::make_shared<Alternating>(), 8, {.max_epochs = 3});
  const auto from = stopped_at(14, std::make_shared<Alternating>());  // in the middle of the second epoch
  const auto resumed = fit(std::make_shared<Alternating>(), 8, {.max_epochs = 3}, from);
  expect_equal(*resumed, *whole);
  EXPECT_EQ(trainer_->global_step(), 30);
  EXPECT_EQ(resumed->seen.size(), 16u);
}

TEST_F(Optimization, ACheckpointOfMoreOptimizersIsRefused) {
  fit(std::make_shared<Alternating>());
  const RunArguments from{.ckpt_path = (trainer_->run_dir() / "checkpoints/last.safetensors").string()};
  EXPECT_THAT(error_of([&] { fit(std::make_shared<TwoLayers>(), 8, {.max_epochs = 3}, from); }),
              HasSubstr("the state of 2 optimizers"));
}

}  // namespace
}  // namespace troupe
