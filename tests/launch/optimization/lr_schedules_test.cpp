// Learning rate schedulers in whole runs.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Scheduled : public TwoLayers {
 public:
  explicit Scheduled(LRSchedulerConfig config, bool looks_at_metric = false)
      : config_(std::move(config)), looks_at_metric_(looks_at_metric) {}
  Optimizers configure_optimizers() override {
    auto optimizer = std::make_shared<torch::optim::SGD>(parameters(), 1.0);
    config_.scheduler = scheduler =
        looks_at_metric_ ? std::make_shared<Metric>(optimizer) : std::make_shared<Halving>(optimizer);
    return {optimizer, config_};
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    log("train_loss", error(batch), {.on_step = true, .on_epoch = true});
    rates.push_back(scheduler->last_lr()[0]);
    return error(batch) * 1e-3;
  }
  struct Metric : Halving {
    using Halving::Halving;
    bool needs_metric() const override { return true; }
    void step(double metric) override {
      metrics.push_back(metric);
      Halving::step();
    }
    std::vector<double> metrics;
  };
  std::shared_ptr<Halving> scheduler;
  std::vector<double> rates;

 private:
  LRSchedulerConfig config_;
  bool looks_at_metric_;
};

TEST_F(Optimization, ASchedulerMovesOnAfterEpochsOrSteps) {
  using Interval = LRSchedulerConfig::Interval;
  EXPECT_THAT(fit(std::make_shared<Scheduled>(LRSchedulerConfig{}), 20)->rates, ElementsAre(1, 1, 0.5, 0.5));
  EXPECT_THAT(fit(std::make_shared<Scheduled>(LRSchedulerConfig{.frequency = 2}), 20)->rates, ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(fit(std::make_shared<Scheduled>(LRSchedulerConfig{.interval = Interval::step}), 20)->rates,
              ElementsAre(1, 0.5, 0.25, 0.125));
  EXPECT_THAT(
      fit(std::make_shared<Scheduled>(LRSchedulerConfig{.interval = Interval::step, .frequency = 3}), 20)->rates,
      ElementsAre(1, 1, 1, 0.5));
  // Steps of the optimizer, not batches.
  EXPECT_THAT(fit(std::make_shared<Scheduled>(LRSchedulerConfig{.interval = Interval::step}), 20,
                  {.accumulate_grad_batches = 2})
                  ->rates,
              ElementsAre(1, 1, 0.5, 0.5));
}

TEST_F(Optimization, ASchedulerLooksAtItsMetric) {
  const auto model = fit(std::make_shared<Scheduled>(LRSchedulerConfig{.monitor = "train_loss_epoch"}, true), 20);
  const auto metrics = std::static_pointer_cast<Scheduled::Metric>(model->scheduler)->metrics;
  ASSERT_EQ(metrics.size(), 2u);
  EXPECT_EQ(metrics[1], trainer_->callback_metrics().at("train_loss_epoch"));
}

TEST_F(Optimization, AMetricThatWasNeverLoggedIsNamed) {
  EXPECT_THAT(error_of_fit(std::make_shared<Scheduled>(LRSchedulerConfig{.monitor = "train_los"}, true)),
              AllOf(HasSubstr("monitors 'train_los'"), HasSubstr("train_loss_epoch"), HasSubstr("did you mean")));
  const auto model = fit(std::make_shared<Scheduled>(LRSchedulerConfig{.monitor = "val_loss", .strict = false}, true));
  EXPECT_EQ(model->scheduler->count, 0);
}

// Validates to a value of the test's own, and lowers its rate by a plateau.
class Plateau : public TwoLayers {
 public:
  explicit Plateau(
      LRSchedulerConfig config = {}, std::function<double(int)> value = [](int) { return 1.0; })
      : config_(std::move(config)), value_(std::move(value)) {}
  Optimizers configure_optimizers() override {
    auto optimizer = std::make_shared<torch::optim::SGD>(parameters(), 1.0);
    config_.scheduler = lr_schedulers::reduce_on_plateau(optimizer, {.patience = 0});
    return {optimizer, config_};
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    rates.push_back(config_.scheduler->last_lr()[0]);
    return error(batch) * 1e-3;
  }
  void on_validation_epoch_start() override { validations += trainer().sanity_checking() ? 0 : 1; }
  StepOutput validation_step(const Batch&, int64_t) override {
    log("val_loss", value_(validations));
    return {};
  }
  std::vector<double> rates;  // at each batch
  int validations = 0;

 private:
  LRSchedulerConfig config_;
  std::function<double(int)> value_;
};

class OnAPlateau : public Optimization {
 protected:
  // Without a loader for validation: the stream that has nothing.
  std::vector<double> rates(const std::shared_ptr<Plateau>& module, TrainerOptions options, int64_t batch_size = 40,
                            RunArguments arguments = {}) {
    options.seed = 7;
    options.default_root_dir = dir_.path();
    options.enable_progress_bar = options.enable_model_summary = false;
    trainer_ = std::make_unique<Trainer>(options);
    const auto validation = has_validation_data ? data_.loader(20) : DataLoader(std::make_shared<Nothing>());
    trainer_->fit(module, data_.loader(batch_size), validation, std::move(arguments));
    return module->rates;
  }
  struct Nothing : IterableDataset {
    void start(int64_t, int64_t, int64_t) override {}
    std::optional<Batch> next() override { return std::nullopt; }
  };
  bool has_validation_data = true;
};

TEST_F(OnAPlateau, ASchedulerLooksInEpochsThatHaveLoggedItsMetric) {
  for (const bool strict : {true, false}) {
    const LRSchedulerConfig config{.strict = strict};
    TrainerOptions options{.max_epochs = 6, .check_val_every_n_epoch = 2};
    const auto falling = std::make_shared<Plateau>(config, [](int validation) { return 1.0 / (1 + validation); });
    EXPECT_THAT(rates(falling, options), ElementsAre(1, 1, 1, 1, 1, 1));
    EXPECT_THAT(rates(std::make_shared<Plateau>(config), options), ElementsAre(1, 1, 1, 1, 0.1, 0.1));
    options.check_val_every_n_epoch = 1;
    EXPECT_THAT(rates(std::make_shared<Plateau>(config), options),
                ElementsAre(1, 1, 0.1, testing::DoubleNear(0.01, 1e-12), testing::_, testing::_));
    // Every third epoch, and validated in every second: they meet after the sixth alone.
    options = {.max_epochs = 8, .check_val_every_n_epoch = 2};
    EXPECT_THAT(rates(std::make_shared<Plateau>(LRSchedulerConfig{.frequency = 3, .strict = strict}), options),
                testing::Each(1));
    // Validated within epochs, and not at their ends.
    options = {.max_epochs = 3, .val_check_interval = 1};
    EXPECT_THAT(rates(std::make_shared<Plateau>(config), options, 20), ElementsAre(1, 1, 1, 1, 0.1, 0.1));
  }
}

TEST_F(OnAPlateau, ASchedulerOfStepsLooksOnceAtEachValue) {
  const LRSchedulerConfig config{.interval = LRSchedulerConfig::Interval::step};
  // Two steps an epoch; the first one after a validation looks at it.
  EXPECT_THAT(rates(std::make_shared<Plateau>(config), {.max_epochs = 4}, 20),
              ElementsAre(1, 1, 1, 1, 1, 0.1, 0.1, testing::DoubleNear(0.01, 1e-12)));
}

TEST_F(OnAPlateau, ASchedulerWhoseMetricCannotComeStaysWhereItIs) {
  for (const bool strict : {true, false}) {
    const LRSchedulerConfig config{.strict = strict};
    EXPECT_THAT(rates(std::make_shared<Plateau>(config), {.max_epochs = 3, .limit_val_batches = 0}),
                ElementsAre(1, 1, 1));
    has_validation_data = false;
    EXPECT_THAT(rates(std::make_shared<Plateau>(config), {.max_epochs = 3}), ElementsAre(1, 1, 1));
    has_validation_data = true;
  }
}

TEST_F(OnAPlateau, ANameThatNoValidationLogsIsAMistakeAfterTheFirst) {
  const auto module = std::make_shared<Plateau>(LRSchedulerConfig{.monitor = "val_los"});
  const auto error = error_of([&] { rates(module, {.max_epochs = 6, .check_val_every_n_epoch = 2}); });
  EXPECT_THAT(error, AllOf(HasSubstr("monitors 'val_los'"), HasSubstr("did you mean val_loss?")));
  EXPECT_EQ(module->rates.size(), 2u);
}

TEST_F(OnAPlateau, ARunResumedBetweenAValidationAndTheEpochsEndLooksAtIt) {
  // Six batches an epoch, validated after the fourth; the checkpoint is of the fifth of the second.
  TrainerOptions options{.max_epochs = 3, .val_check_interval = 4};
  options.callbacks = {std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "middle", .save_top_k = -1, .every_n_train_steps = 11})};
  const auto whole = rates(std::make_shared<Plateau>(), options, 7);
  EXPECT_EQ(whole.back(), 0.1);
  options.callbacks.clear();
  const auto from = (trainer_->run_dir() / "checkpoints/middle.safetensors").string();
  const auto resumed = rates(std::make_shared<Plateau>(), options, 7, {.ckpt_path = from});
  EXPECT_EQ(resumed, std::vector<double>(whole.begin() + 11, whole.end()));
}

TEST_F(Optimization, SchedulersThatCannotBeAreRefused) {
  EXPECT_THAT(error_of_fit(std::make_shared<Scheduled>(LRSchedulerConfig{.frequency = 0})), HasSubstr("frequency = 0"));
  class Stranger : public TwoLayers {
    Optimizers configure_optimizers() override {
      const auto other = std::make_shared<torch::optim::SGD>(parameters(), 1.0);
      return {{std::make_shared<torch::optim::SGD>(parameters(), 1.0)},
              {{.scheduler = std::make_shared<Halving>(other)}}};
    }
  };
  EXPECT_THAT(error_of_fit(std::make_shared<Stranger>()), HasSubstr("none of those"));
}

TEST_F(Optimization, SchedulersGoOnFromACheckpoint) {
  using Interval = LRSchedulerConfig::Interval;
  const LRSchedulerConfig config{.interval = Interval::step, .frequency = 3};
  const auto whole = fit(std::make_shared<Scheduled>(config), 8, {.max_epochs = 3});
  const auto from = stopped_at(7, std::make_shared<Scheduled>(config));
  const auto resumed = fit(std::make_shared<Scheduled>(config), 8, {.max_epochs = 3}, from);
  expect_equal(*resumed, *whole);
  EXPECT_EQ(resumed->scheduler->count, 5);
  EXPECT_EQ(std::vector<double>(whole->rates.begin() + 7, whole->rates.end()), resumed->rates);
  EXPECT_THAT(error_of([&] { fit(std::make_shared<TwoLayers>(), 8, {.max_epochs = 3}, from); }),
              HasSubstr("has 1 lr_schedulers"));
}

class OwnSchedulerStep : public Scheduled {
 public:
  OwnSchedulerStep() : Scheduled(LRSchedulerConfig{}) {}
  void lr_scheduler_step(LRScheduler& scheduler, int64_t optimizer_idx, std::optional<double> metric) override {
    EXPECT_EQ(optimizer_idx, 0);
    EXPECT_FALSE(metric);
    scheduler.step();
    scheduler.step();
  }
};

TEST_F(Optimization, TheSchedulersStepCanBeOverridden) {
  EXPECT_THAT(fit(std::make_shared<OwnSchedulerStep>(), 20)->rates, ElementsAre(1, 1, 0.25, 0.25));
}

}  // namespace
}  // namespace troupe
