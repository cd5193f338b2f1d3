// What 16-mixed and bf16-mixed leave as it is: gradients that anybody looks at, clips or steps with, the count of
// steps, and weights that change within a training_step.
#include "tests/support/one_weight.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <set>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Manual optimization whose step a test writes; options make one for each device.
struct ByHandOptions {
  int64_t what = 0;
};
TROUPE_OPTIONS(ByHandOptions, (what, "which step"))

class ScaledByHand;
using Step = std::function<void(ScaledByHand&, const Batch&)>;
std::vector<Step>& steps() {
  static std::vector<Step> all;
  return all;
}

class ScaledByHand : public ModuleWith<ByHandOptions> {
 public:
  explicit ScaledByHand(ByHandOptions options) : ModuleWith(options) {
    automatic_optimization = false;
    a = register_parameter("a", torch::ones({1}));
    b = register_parameter("b", torch::ones({1}));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    steps().at(static_cast<std::size_t>(options().what))(*this, batch);
    return {};
  }
  Optimizers configure_optimizers() override {
    return {std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{a}, 1.0),
            std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{b}, 1.0)};
  }
  void on_after_backward() override {
    if (a.grad().defined()) gradients.push_back(a.grad().item<double>());
  }
  void on_train_end() override { counted = global_step(); }
  void zero() {
    for (const auto& each : optimizers()) each.zero_grad();
  }
  torch::Tensor a, b;
  std::vector<double> gradients;
  int64_t counted = 0;
};

struct Devices {
  Strategy strategy;
  int64_t count;
};

// The module after batches of ones, trained with `step` in this precision and with these devices.
std::shared_ptr<ScaledByHand> by_hand(const Step& step, Precision precision,
                                      const Devices& devices = {Strategy::automatic, 1}, int64_t batches = 1) {
  steps() = {step};
  const TempDir dir;
  auto options = one_epoch(dir, precision);
  options.strategy = devices.strategy;
  options.devices = devices.count;
  return Trainer(options).fit<ScaledByHand>(
      {}, numbers(std::vector<float>(static_cast<std::size_t>(batches * devices.count), 1)));
}

const std::vector<Precision> mixed_precisions = {Precision::float32, Precision::float16_mixed,
                                                 Precision::bfloat16_mixed};
const std::vector<Devices> placements = {{Strategy::automatic, 1}, {Strategy::ddp, 2}, {Strategy::zero, 2}};

TEST(ManualOptimization, ClipsTheGradientsThemselvesInEveryPrecision) {
  for (const auto& devices : placements) {
    for (const auto precision : mixed_precisions) {
      for (const auto algorithm : {GradientClipAlgorithm::norm, GradientClipAlgorithm::value}) {
        SCOPED_TRACE(name_of(devices.strategy) + " " + name_of(precision) + " " + name_of(algorithm));
        const auto model = by_hand(
            [&](ScaledByHand& m, const Batch& batch) {
              auto opt = m.optimizer();
              opt.zero_grad();
              m.manual_backward((2 * m.a * batch[0]).mean());
              m.clip_gradients(*opt, 0.5, algorithm);
              opt.step();
            },
            precision, devices);
        EXPECT_NEAR(model->a.item<double>(), 0.5, 1e-5);
        if (devices.strategy != Strategy::zero) EXPECT_THAT(model->gradients, Each(2));
      }
    }
  }
}

TEST(ManualOptimization, StepsTwoOptimizersWithOneBackwardInAnyOrder) {
  for (const auto& devices : placements) {
    for (const std::size_t first : {0u, 1u}) {
      SCOPED_TRACE(name_of(devices.strategy) + std::to_string(first));
      const auto model = by_hand(
          [&](ScaledByHand& m, const Batch&) {
            m.zero();
            m.manual_backward((m.a * 1e35 + m.b).sum());
            m.optimizer(first).step();
            m.optimizer(1 - first).step();
          },
          Precision::float16_mixed, devices, /*batches=*/3);
      EXPECT_EQ(model->b.item<double>(), -2);
      EXPECT_EQ(model->a.item<double>(), 1);  // its gradient overflows under the scale
      EXPECT_EQ(model->counted, 3);
    }
  }
}

TEST(ManualOptimization, StepsOneOptimizerTwiceWithOneBackward) {
  for (const auto& devices : placements) {
    for (const auto precision : mixed_precisions) {
      SCOPED_TRACE(name_of(devices.strategy) + " " + name_of(precision));
      const auto model = by_hand(
          [](ScaledByHand& m, const Batch&) {
            m.zero();
            m.manual_backward(-m.a.sum());
            m.optimizer().step();
            m.optimizer().step();
          },
          precision, devices);
      EXPECT_EQ(model->a.item<double>(), 3);
    }
  }
}

TEST(ManualOptimization, AddsToGradientsThatWereClippedOrLookedAt) {
  for (const auto& devices : placements) {
    for (const auto precision : mixed_precisions) {
      SCOPED_TRACE(name_of(devices.strategy) + " " + name_of(precision));
      const auto model = by_hand(
          [](ScaledByHand& m, const Batch&) {
            m.zero();
            m.manual_backward((4 * m.a + m.b).sum());
            m.clip_gradients(*m.optimizer(), 1.0, GradientClipAlgorithm::value);
            m.manual_backward((m.a * 0.5 + m.b).sum());
            m.optimizer(0).step();
            m.manual_backward(m.b.sum());
            m.optimizer(1).step();
          },
          precision, devices);
      EXPECT_NEAR(model->a.item<double>(), 1 - 1.5, 1e-5);
      EXPECT_NEAR(model->b.item<double>(), 1 - 3, 1e-5);
    }
  }
}

// As where memory is too small for one of the losses.
TEST(ManualOptimization, GoesOnAfterABackwardPassThatFailed) {
  for (const auto precision : mixed_precisions) {
    SCOPED_TRACE(name_of(precision));
    const auto model = by_hand(
        [](ScaledByHand& m, const Batch&) {
          m.zero();
          m.manual_backward(m.b.sum());
          auto bad = m.a * 2;
          bad.register_hook([](torch::Tensor gradient) -> torch::Tensor {
            if (gradient.defined()) throw std::runtime_error("too little memory");
            return gradient;
          });
          EXPECT_THROW(m.manual_backward(bad.sum()), std::exception);
          m.optimizer(0).zero_grad();
          m.optimizer(1).step();
        },
        precision, {Strategy::automatic, 1}, /*batches=*/2);
    EXPECT_EQ(model->b.item<double>(), -1);
  }
}

// One parameter that two optimizers have, and one that none has.
class SharedInPrecision : public OneWeight {
 public:
  SharedInPrecision() {
    automatic_optimization = false;
    own = register_parameter("own", torch::ones({1}));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    for (const auto& each : optimizers()) each.zero_grad();
    manual_backward((2 * w * batch[0] + 3 * own).mean());
    EXPECT_EQ(w.grad().item<double>(), 2);
    EXPECT_EQ(own.grad().item<double>(), 3 * ++seen);  // nobody clears it
    for (const auto& each : optimizers()) each.step();
    return {};
  }
  Optimizers configure_optimizers() override {
    return {std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{w}, 1.0),
            std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{w}, 1.0)};
  }
  torch::Tensor own;
  int seen = 0;
};

TEST(ManualOptimization, DividesAGradientOfTwoOptimizersOnceAndThoseOfNoneToo) {
  const TempDir dir;
  EXPECT_EQ(Trainer(one_epoch(dir, Precision::float16_mixed))
                .fit(std::make_shared<SharedInPrecision>(), numbers({1, 1}))
                ->weight(),
            1 - 8);
}

TEST(ManualOptimization, RefusesToClipByWhatIsNoBound) {
  OneWeight module;
  torch::optim::SGD optimizer({module.w}, 1.0);
  module.w.mutable_grad() = torch::full({1}, 2.0);
  for (const auto algorithm : {GradientClipAlgorithm::norm, GradientClipAlgorithm::value}) {
    EXPECT_THAT(error_of([&] { module.clip_gradients(optimizer, -0.5, algorithm); }), HasSubstr("-0.5"));
    EXPECT_NE(error_of([&] { module.clip_gradients(optimizer, NAN, algorithm); }), "");
    module.clip_gradients(optimizer, 0.0, algorithm);
  }
  EXPECT_EQ(module.w.grad().item<double>(), 2);
}

// --- Steps that the scaler leaves out ---

// The first gradients overflow, whatever the scale.
class OverflowingByHand : public OneWeight {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    seen.push_back(global_step());
    rates.push_back(scheduler ? scheduler->last_lr()[0] : 0);
    const auto loss = (w * batch[0]).mean();
    if (bad_batches.contains(batch_idx)) return loss * std::numeric_limits<float>::infinity();
    return loss;
  }
  void optimizer_step(int64_t epoch, int64_t batch_idx, torch::optim::Optimizer& optimizer, int64_t index,
                      const OptimizerClosure& closure) override {
    ++updates;
    OneWeight::optimizer_step(epoch, batch_idx, optimizer, index, closure);
  }
  void on_before_optimizer_step(torch::optim::Optimizer&, int64_t) override {
    gradients.push_back(w.grad().item<double>());
  }
  Optimizers configure_optimizers() override {
    auto optimizer = std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{w}, options().rate);
    scheduler = lr_schedulers::step(optimizer, {.step_size = 1, .gamma = 0.5});
    return {optimizer, LRSchedulerConfig{.scheduler = scheduler, .interval = LRSchedulerConfig::Interval::step}};
  }
  std::shared_ptr<LRScheduler> scheduler;
  std::set<int64_t> bad_batches = {0, 1, 2};
  std::vector<int64_t> seen;
  std::vector<double> rates, gradients;
  int updates = 0;
};

TEST(ASkippedStep, DoesNotCountAndMovesNoScheduler) {
  const TempDir dir;
  auto options = one_epoch(dir, Precision::float16_mixed);
  options.max_steps = 2;
  options.max_epochs = std::nullopt;
  const auto model = std::make_shared<OverflowingByHand>();
  Trainer trainer(options);
  trainer.fit(std::shared_ptr<OverflowingByHand>(model), numbers(std::vector<float>(10, 1)));
  EXPECT_THAT(model->seen, ElementsAre(0, 0, 0, 0, 1));
  EXPECT_THAT(model->rates, ElementsAre(1, 1, 1, 1, 0.5));
  EXPECT_THAT(model->gradients, ElementsAre(1, 1));
  EXPECT_EQ(model->updates, 2);
  EXPECT_EQ(trainer.global_step(), 2);
  EXPECT_EQ(model->weight(), 1 - 1 - 0.5);
}

TEST(ASkippedStep, IsNoneOfEveryNTrainSteps) {
  const TempDir dir;
  auto options = one_epoch(dir, Precision::float16_mixed);
  options.enable_checkpointing = true;
  options.callbacks = {std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "{step}", .save_top_k = -1, .every_n_train_steps = 2})};
  Trainer trainer(options);
  trainer.fit(std::make_shared<OverflowingByHand>(), numbers(std::vector<float>(8, 1)));
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(trainer.run_dir() / "checkpoints")) {
    names.insert(file.path().filename().string());
  }
  EXPECT_THAT(names, ElementsAre("step=2.safetensors", "step=4.safetensors"));
}

TEST(ASkippedStep, LeavesTheNextGradientsWhole) {
  for (const auto precision : {Precision::float32, Precision::float16_mixed}) {
    SCOPED_TRACE(name_of(precision));
    const TempDir dir;
    auto options = one_epoch(dir, precision);
    options.nonfinite = NonFinite::skip;
    const auto model = std::make_shared<OverflowingByHand>();
    model->bad_batches = {1};
    Trainer(options).fit(std::shared_ptr<OverflowingByHand>(model), numbers({1, 1, 2, 3}));
    EXPECT_THAT(model->gradients, ElementsAre(1, 2, 3));
  }
}

TEST(ASkippedStep, ByHandDoesNotCountEither) {
  for (const auto& devices : placements) {
    SCOPED_TRACE(name_of(devices.strategy));
    const auto model = by_hand(
        [](ScaledByHand& m, const Batch&) {
          m.zero();
          m.manual_backward(m.a.sum() * std::numeric_limits<float>::infinity());
          m.optimizer().step();
        },
        Precision::float16_mixed, devices, /*batches=*/3);
    EXPECT_EQ(model->counted, 0);
    EXPECT_EQ(model->a.item<double>(), 1);
  }
}

TEST(ASkippedStep, EndsTheRunWhereNoScaleIsSmallEnough) {
  const TempDir dir;
  auto options = one_epoch(dir, Precision::float16_mixed);
  options.max_steps = 1;
  options.max_epochs = -1;
  auto model = std::make_shared<OverflowingByHand>();
  for (int64_t i = 0; i < 100; ++i) model->bad_batches.insert(i);
  EXPECT_THAT(error_of([&] { Trainer(options).fit(std::move(model), numbers(std::vector<float>(100, 1))); }),
              AllOf(HasSubstr("not finite, however small the scale"), HasSubstr("batch 56")));
}

// --- Windows ---

// Batch 0 and 1 are a window; the scale changes in the first optimizer's step of batch 1.
class TwoInWindows : public Module {
 public:
  TwoInWindows() {
    a = register_parameter("a", torch::ones({1}));
    b = register_parameter("b", torch::ones({1}));
  }
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    return optimizer_idx == 0 ? (a * 1e35 * batch[0]).sum() : (b * batch[0]).sum();
  }
  Optimizers configure_optimizers() override {
    return {std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{a}, 1.0),
            std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{b}, 1.0)};
  }
  void on_after_backward() override {
    if (b.grad().defined()) gradients.push_back(b.grad().item<double>());
  }
  torch::Tensor a, b;
  std::vector<double> gradients;
};

TEST(AWindow, HoldsGradientsOfOneScaleAlsoWhereTheScaleChangesInIt) {
  const TempDir dir;
  auto options = one_epoch(dir, Precision::float16_mixed);
  options.accumulate_grad_batches = 2;
  const auto model = Trainer(options).fit(std::make_shared<TwoInWindows>(), numbers({1, 2}));
  EXPECT_EQ(model->b.item<double>(), 1 - 1.5);
  EXPECT_THAT(model->gradients, ElementsAre(0.5, 0.5, 1.5));
}

class ValidatedInPrecision : public OneWeight {
 public:
  using OneWeight::OneWeight;
  StepOutput validation_step(const Batch&, int64_t) override { return {}; }
};

TEST(AWindow, IsTheSameInEveryPrecisionOnSeveralDevicesAndAfterAResumeWithinIt) {
  for (const auto& devices : placements) {
    for (const auto precision : mixed_precisions) {
      SCOPED_TRACE(name_of(devices.strategy) + " " + name_of(precision));
      const TempDir dir;
      auto options = one_epoch(dir, precision);
      options.strategy = devices.strategy;
      options.devices = devices.count;
      options.accumulate_grad_batches = 3;
      options.gradient_clip_val = 2;
      options.enable_checkpointing = true;
      options.val_check_interval = 2;  // a checkpoint with two of the three batches
      options.callbacks = {std::make_shared<ModelCheckpoint>(
          ModelCheckpointOptions{.filename = "{step}", .save_top_k = -1, .save_on_train_epoch_end = false})};
      std::vector<float> data;
      for (const float x : {1, 2, 3, 4}) data.insert(data.end(), static_cast<std::size_t>(devices.count), x);
      // (1 + 2 + 3) / 3, then 4, which is clipped.
      Trainer trainer(options);
      EXPECT_NEAR(trainer.fit<ValidatedInPrecision>({}, numbers(data), numbers({1}))->weight(), 1 - 2 - 2, 1e-5);
      const auto within = (trainer.run_dir() / "checkpoints/step=0.safetensors").string();
      options.callbacks = {};
      const auto resumed =
          Trainer(options).fit<ValidatedInPrecision>({}, numbers(data), numbers({1}), {.ckpt_path = within});
      EXPECT_NEAR(resumed->weight(), 1 - 2 - 2, 1e-5);
    }
  }
}

// --- Weights that change within a training_step ---

enum class Change { step_of_the_handle, step_of_the_optimizer, in_place };

class Convolution : public Module {
 public:
  explicit Convolution(Change change) : change_(change) {
    automatic_optimization = false;
    layer = register_module("layer", torch::nn::Conv1d(torch::nn::Conv1dOptions(1, 1, 1).bias(false)));
    layer->weight.data().fill_(1);
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto x = batch[0].reshape({1, 1, 1});
    for (int i = 0; i < 3; ++i) {
      auto opt = optimizer();
      opt.zero_grad();
      manual_backward(layer(x).to(torch::kFloat32).sum() * 0.5);
      change(opt);
      outputs.push_back(layer(x).item<double>());
      weights.push_back(layer->weight.item<double>());
    }
    return {};
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.25); }
  torch::nn::Conv1d layer{nullptr};
  std::vector<double> outputs, weights;

 private:
  void change(const OptimizerHandle& opt) {
    if (change_ == Change::step_of_the_handle) return opt.step();
    if (change_ == Change::step_of_the_optimizer) return (void)opt->step();
    const torch::NoGradGuard no_gradients;
    layer->weight.sub_(0.25 * layer->weight.grad());
  }
  Change change_;
};

TEST(AStepByHand, IsSeenByTheNextForwardOfTheSameTrainingStep) {
  for (const auto precision : mixed_precisions) {
    for (const auto change : {Change::step_of_the_handle, Change::step_of_the_optimizer, Change::in_place}) {
      SCOPED_TRACE(name_of(precision));
      const TempDir dir;
      const auto model = std::make_shared<Convolution>(change);
      Trainer(one_epoch(dir, precision)).fit(std::shared_ptr<Convolution>(model), numbers({1}));
      EXPECT_THAT(model->weights, ElementsAre(0.875, 0.75, 0.625));
      EXPECT_EQ(model->outputs, model->weights);
    }
  }
}

}  // namespace
}  // namespace troupe
