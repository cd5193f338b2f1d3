// Several optimizers, manual optimization, schedulers, accumulation and precision in whole runs, held against loops
// written by hand.
#include "tests/launch/lines.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// 40 samples of two features in float64.
struct Data {
  torch::Tensor x, y;
  Data() {
    const torch::NoGradGuard no_gradients;
    x = torch::linspace(-1, 1, 80, torch::kFloat64).reshape({40, 2});
    y = (x.select(1, 0) * 2 - x.select(1, 1) + 1).unsqueeze(1);
  }
  DataLoader loader(int64_t batch_size) const {
    return {std::make_shared<TensorDataset>(x, y), {.batch_size = batch_size}};
  }
  std::pair<torch::Tensor, torch::Tensor> batch(int64_t i, int64_t size) const {
    const auto end = std::min<int64_t>(40, (i + 1) * size);
    return {x.slice(0, i * size, end), y.slice(0, i * size, end)};
  }
};

// Two layers, so that each can have an optimizer of its own.
class TwoLayers : public Module {
 public:
  TwoLayers() {
    first = register_module("first", torch::nn::Linear(2, 3));
    second = register_module("second", torch::nn::Linear(3, 1));
    to(torch::kFloat64);
    torch::NoGradGuard no_gradients;
    double value = 0.1;
    for (auto& parameter : parameters()) {
      for (int64_t i = 0; i < parameter.numel(); ++i) parameter.view(-1)[i] = value = std::fmod(value * 1.7 + 0.3, 1.0);
    }
  }
  torch::Tensor forward(torch::Tensor x) override { return second(torch::tanh(first(x))); }
  torch::Tensor error(const torch::Tensor& x, const torch::Tensor& y) { return torch::mse_loss(forward(x), y); }
  torch::Tensor error(const Batch& batch) { return error(batch[0], batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t) override { return error(batch); }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }

  std::vector<torch::Tensor> values() const {
    std::vector<torch::Tensor> all;
    for (const auto& parameter : parameters()) all.push_back(parameter.detach().clone());
    return all;
  }
  torch::nn::Linear first{nullptr}, second{nullptr};
};

void expect_equal(const TwoLayers& a, const TwoLayers& b, double tolerance = 0) {
  const auto x = a.values(), y = b.values();
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_LE((x[i] - y[i]).abs().max().item<double>(), tolerance) << "parameter " << i;
  }
}

class Optimization : public ::testing::Test {
 protected:
  template <class M>
  std::shared_ptr<M> fit(std::shared_ptr<M> module, int64_t batch_size = 8, TrainerOptions changed = {},
                         RunArguments arguments = {}) {
    TrainerOptions options = quiet(dir_);
    options.max_epochs = changed.max_epochs ? changed.max_epochs : options.max_epochs;
    options.accumulate_grad_batches = changed.accumulate_grad_batches;
    options.accumulate_grad_weighting = changed.accumulate_grad_weighting;
    options.gradient_clip_val = changed.gradient_clip_val;
    options.precision = changed.precision;
    options.max_steps = changed.max_steps;
    options.callbacks = changed.callbacks;
    trainer_ = std::make_unique<Trainer>(options);
    return trainer_->fit(std::move(module), data_.loader(batch_size), {}, std::move(arguments));
  }
  // Fits with a checkpoint after `step` steps of optimizers, and gives what goes on from there.
  template <class M>
  RunArguments stopped_at(int64_t step, std::shared_ptr<M> module) {
    const auto checkpoint = std::make_shared<ModelCheckpoint>(
        ModelCheckpointOptions{.filename = "middle", .save_top_k = -1, .every_n_train_steps = step});
    fit(std::move(module), 8, {.max_epochs = 3, .callbacks = {checkpoint}});
    return {.ckpt_path = (trainer_->run_dir() / "checkpoints/middle.safetensors").string()};
  }
  template <class M>
  std::string error_of_fit(std::shared_ptr<M> module, TrainerOptions changed = {}) {
    return error_of([&] { fit(module, 8, changed); });
  }

  TempDir dir_;
  Data data_;
  std::unique_ptr<Trainer> trainer_;
};

// --- Several optimizers ---

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

// --- Accumulation ---

// The weights after steps of whole windows: batches of `size` joined `window` by `window` within an epoch.
TwoLayers with_large_batches(const Data& data, int64_t size, int64_t epochs) {
  TwoLayers expected;
  torch::optim::SGD optimizer(expected.parameters(), 0.1);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t i = 0; i * size < 40; ++i) {
      const auto [x, y] = data.batch(i, size);
      expected.zero_grad();
      expected.error(x, y).backward();
      optimizer.step();
    }
  }
  return expected;
}

TEST_F(Optimization, AccumulationIsExactWhereTheLastWindowIsShort) {
  // 7 + 7 + 7 | 7 + 7 + 5: the last batch is short; 9 + 9 | 9 + 9 | 4: so is the last window.
  expect_equal(*fit(std::make_shared<TwoLayers>(), 7, {.accumulate_grad_batches = 3}), with_large_batches(data_, 21, 2),
               1e-12);
  expect_equal(*fit(std::make_shared<TwoLayers>(), 9, {.accumulate_grad_batches = 2}), with_large_batches(data_, 18, 2),
               1e-12);
}

TEST_F(Optimization, LightningsWayOfAccumulatingIsThere) {
  const auto model =
      fit(std::make_shared<TwoLayers>(), 9,
          {.max_epochs = 1, .accumulate_grad_batches = 2, .accumulate_grad_weighting = GradWeighting::batches});
  TwoLayers expected;
  torch::optim::SGD optimizer(expected.parameters(), 0.1);
  expected.zero_grad();
  for (int64_t i = 0; i < 5; ++i) {
    const auto [x, y] = data_.batch(i, 9);
    (expected.error(x, y) / 2).backward();
    if (i % 2 == 0 && i != 4) continue;
    optimizer.step();
    expected.zero_grad();
  }
  expect_equal(*model, expected, 1e-12);
}

TEST_F(Optimization, ClippingComesAfterTheWindowIsWhole) {
  const auto model =
      fit(std::make_shared<TwoLayers>(), 9, {.max_epochs = 1, .accumulate_grad_batches = 2, .gradient_clip_val = 0.5});
  TwoLayers expected;
  torch::optim::SGD optimizer(expected.parameters(), 0.1);
  for (int64_t i = 0; i < 3; ++i) {
    const auto [x, y] = data_.batch(i, 18);
    expected.zero_grad();
    expected.error(x, y).backward();
    torch::nn::utils::clip_grad_norm_(expected.parameters(), 0.5);
    optimizer.step();
  }
  expect_equal(*model, expected, 1e-12);
}

// --- Manual optimization ---

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

// Halves the learning rates.
class Halving : public LRScheduler {
 public:
  using LRScheduler::LRScheduler;
  void step() override {
    ++count;
    for (auto& group : optimizer()->param_groups()) group.options().set_lr(group.options().get_lr() / 2);
  }
  nlohmann::json state_dict() const override { return {{"count", count}}; }
  void load_state_dict(const nlohmann::json& state) override { count = state.at("count"); }
  int count = 0;
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

// --- The overridable pieces ---

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

// --- Schedulers ---

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

// --- Truncated back-propagation through time ---

class Recurrent : public Module {
 public:
  Recurrent() {
    lstm_ = register_module("lstm", torch::nn::LSTM(torch::nn::LSTMOptions(1, 3).batch_first(true)));
    truncated_bptt_steps = 2;
  }
  StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
    std::optional<std::tuple<torch::Tensor, torch::Tensor>> state;
    if (!hiddens.empty()) {
      EXPECT_FALSE(hiddens["hidden_c"].requires_grad());
      state = {hiddens["hidden_h"], hiddens["hidden_c"]};
    }
    lengths.push_back(part[0].size(1));
    begins_anew.push_back(hiddens.empty());
    const auto [out, next] = lstm_(part[0], state);
    return {{"loss", out.square().mean()}, {"hidden_h", std::get<0>(next)}, {"hidden_c", std::get<1>(next)}};
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }
  EpochControl on_train_batch_start(const Batch& batch, int64_t) override {
    starts.push_back(batch[0].size(1));
    return EpochControl::proceed;
  }
  void on_train_batch_end(const StepOutput&, const Batch& batch, int64_t) override { ends.push_back(batch[0].size(1)); }
  std::vector<int64_t> lengths, starts, ends;
  std::vector<bool> begins_anew;

 private:
  torch::nn::LSTM lstm_{nullptr};
};

TEST_F(Optimization, PartsOfASequenceAreSteppedOneByOneWithinOneBatch) {
  auto options = quiet(dir_);
  options.max_epochs = 1;
  Trainer trainer(options);
  const auto data = std::make_shared<TensorDataset>(torch::linspace(0, 1, 20).reshape({4, 5, 1}));
  const auto model = trainer.fit(std::make_shared<Recurrent>(), DataLoader(data, {.batch_size = 2}));
  EXPECT_THAT(model->lengths, ElementsAre(2, 2, 1, 2, 2, 1));
  EXPECT_THAT(model->begins_anew, ElementsAre(true, false, false, true, false, false));
  EXPECT_THAT(model->starts, ElementsAre(5, 5));
  EXPECT_THAT(model->ends, ElementsAre(5, 5));
  EXPECT_EQ(trainer.global_step(), 6);
  options.accumulate_grad_batches = 2;
  Trainer accumulating(options);
  EXPECT_THAT(error_of([&] { accumulating.fit(std::make_shared<Recurrent>(), DataLoader(data, {.batch_size = 2})); }),
              HasSubstr("accumulate_grad_batches = 2"));
}

// --- Step ends ---

class StepEnds : public Line {
 public:
  StepOutput training_step_end(const std::vector<StepOutput>& batch_parts) override {
    EXPECT_EQ(batch_parts.size(), 1u);
    ++training;
    return batch_parts[0].loss() * 0;
  }
  StepOutput validation_step_end(const std::vector<StepOutput>& batch_parts) override {
    ++validation;
    return batch_parts[0];
  }
  StepOutput test_step_end(const std::vector<StepOutput>& batch_parts) override {
    ++test;
    return batch_parts[0];
  }
  int training = 0, validation = 0, test = 0;
};

TEST_F(Optimization, StepEndsGetWhatTheStepsReturned) {
  auto options = quiet(dir_);
  options.num_sanity_val_steps = 0;
  Trainer trainer(options);
  const auto model = std::make_shared<StepEnds>();
  const double before = model->weight();
  trainer.fit(model, points(), points());
  trainer.test(model, points());
  EXPECT_EQ(model->training, 8);
  EXPECT_EQ(model->validation, 8);
  EXPECT_EQ(model->test, 4);
  EXPECT_EQ(model->weight(), before);
}

// --- Precision ---

class Typed : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    batch_type = batch[0].scalar_type();
    output_type = forward(batch[0]).scalar_type();
    parameter_type = layer_->weight.scalar_type();
    default_type = torch::ones({1}).scalar_type();
    bits = precision();
    amp = use_amp();
    return Line::training_step(batch, batch_idx);
  }
  torch::ScalarType batch_type, output_type, parameter_type, default_type;
  int bits = 0;
  bool amp = false;
};

TEST_F(Optimization, EachPrecisionComputesInItsFormat) {
  struct Expected {
    Precision precision;
    torch::ScalarType parameter, batch, output, fresh;
    int bits;
    bool amp;
  };
  using namespace torch;
  const std::vector<Expected> all = {{Precision::float32, kFloat32, kFloat32, kFloat32, kFloat32, 32, false},
                                     {Precision::float64, kFloat64, kFloat64, kFloat64, kFloat64, 64, false},
                                     {Precision::bfloat16_mixed, kFloat32, kFloat32, kBFloat16, kFloat32, 16, true},
                                     {Precision::float16_mixed, kFloat32, kFloat32, kFloat16, kFloat32, 16, true},
                                     {Precision::bfloat16_true, kBFloat16, kBFloat16, kBFloat16, kBFloat16, 16, false},
                                     {Precision::float16_true, kFloat16, kFloat16, kFloat16, kFloat16, 16, false}};
  for (const auto& expected : all) {
    SCOPED_TRACE(name_of(expected.precision));
    auto options = quiet(dir_);
    options.precision = expected.precision;
    options.max_epochs = 40;
    Trainer trainer(options);
    const auto model = trainer.fit(std::make_shared<Typed>(), points(), points());
    EXPECT_EQ(model->parameter_type, expected.parameter);
    EXPECT_EQ(model->batch_type, expected.batch);
    EXPECT_EQ(model->output_type, expected.output);
    EXPECT_EQ(model->default_type, expected.fresh);
    EXPECT_EQ(model->bits, expected.bits);
    EXPECT_EQ(model->amp, expected.amp);
    const auto end = model->named_parameters()["layer.weight"].to(kFloat64).item<double>();
    EXPECT_NEAR(end, 2, expected.bits == 16 ? 0.1 : 0.01);
    EXPECT_EQ(torch::ones({1}).scalar_type(), kFloat32);
  }
}

class Overflowing : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto loss = Line::error(batch);
    if (batch_idx == 1) return loss * std::numeric_limits<float>::infinity();
    return loss;
  }
};

TEST_F(Optimization, AnOverflowIn16MixedLeavesOutTheStep) {
  auto options = quiet(dir_);
  options.precision = Precision::float16_mixed;
  options.max_epochs = 1;
  Trainer trainer(options);
  const auto model = trainer.fit(std::make_shared<Overflowing>(), points());
  EXPECT_TRUE(std::isfinite(model->weight()));
  const auto last = read_checkpoint(trainer.run_dir() / "checkpoints/last.safetensors");
  // The first scale is too large for this loss as well, so more than one step may be left out.
  const int64_t skipped = last.metadata["grad_scaler"]["skipped_steps"];
  EXPECT_GE(skipped, 1);
  EXPECT_EQ(last.metadata["grad_scaler"]["scale"], std::ldexp(65536, static_cast<int>(-skipped)));
}

}  // namespace
}  // namespace troupe
