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

// What each hook finds in the module.
class ScheduleFreeLayers : public TwoLayers {
 public:
  Optimizers configure_optimizers() override { return optim::schedule_free_adamw(parameters(), {.lr = 0.05}); }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    evaluated = first->weight.detach().clone();
    log("val_loss", error(batch));
    return {};
  }
  void on_train_epoch_end() override { trained = first->weight.detach().clone(); }
  void on_train_start() override { trained = first->weight.detach().clone(); }
  torch::Tensor evaluated, trained;
};

class ScheduleFree : public Optimization {
 protected:
  std::shared_ptr<ScheduleFreeLayers> train(int64_t epochs, bool validates, RunArguments arguments = {},
                                            std::vector<std::shared_ptr<Callback>> callbacks = {}) {
    TrainerOptions options{.max_epochs = epochs, .num_sanity_val_steps = 2, .seed = 7, .default_root_dir = dir_.path()};
    options.enable_progress_bar = options.enable_model_summary = false;
    options.callbacks = std::move(callbacks);
    trainer_ = std::make_unique<Trainer>(options);
    return trainer_->fit(std::make_shared<ScheduleFreeLayers>(), data_.loader(8),
                         validates ? DataLoaders(data_.loader(8)) : DataLoaders(), std::move(arguments));
  }
  std::string last() const { return (trainer_->run_dir() / "checkpoints/last.safetensors").string(); }
};

TEST_F(ScheduleFree, ValidatesSavesAndLeavesTheWeightsToEvaluate) {
  const auto model = train(2, /*validates=*/true);
  // By hand.
  TwoLayers expected;
  const auto optimizer = optim::schedule_free_adamw(expected.parameters(), {.lr = 0.05});
  for (int64_t i = 0; i < 10; ++i) {
    const auto [x, y] = data_.batch(i % 5, 8);
    optimizer->zero_grad();
    expected.error(x, y).backward();
    optimizer->step();
  }
  EXPECT_TRUE(torch::equal(model->trained, expected.first->weight));
  optimizer->eval();
  EXPECT_FALSE(torch::allclose(model->trained, expected.first->weight, 0, 1e-4));
  expect_equal(*model, expected);
  EXPECT_TRUE(torch::equal(model->evaluated, expected.first->weight));
  const auto saved = read_any_weights(last()).tensors;
  const auto found = std::ranges::find(saved, std::string("first.weight"), &NamedTensors::value_type::first);
  ASSERT_NE(found, saved.end());
  EXPECT_TRUE(torch::equal(found->second, expected.first->weight));
  expect_equal(*train(2, /*validates=*/false), expected);
}

TEST_F(ScheduleFree, GoesOnFromACheckpointToTheBit) {
  const auto whole = train(4, /*validates=*/true);
  train(2, /*validates=*/true);
  const auto resumed = train(4, /*validates=*/true, {.ckpt_path = last()});
  EXPECT_TRUE(torch::equal(resumed->trained, whole->trained));
  expect_equal(*resumed, *whole);
}

TEST_F(ScheduleFree, IsNotAveragedASecondTime) {
  EXPECT_THAT(
      error_of([&] { train(1, false, {}, {std::make_shared<WeightAveraging>()}); }),
      HasSubstr("WeightAveraging: the optimizer ScheduleFreeAdamW evaluates an average of its own; use one of"));
}

}  // namespace
}  // namespace troupe
