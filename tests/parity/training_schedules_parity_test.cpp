// Schedulers as a Trainer moves them on, against PyTorch's over 50 steps: rates to 1e-14, losses and weights to 1e-10
// in float64 and to 1e-5 in float32. And what log() makes of an epoch.
#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

using Scheduler = std::shared_ptr<LRScheduler>;

Scheduler plateau(OptimizerPtr o) {
  return lr_schedulers::reduce_on_plateau(std::move(o), {.factor = 0.5, .patience = 0, .threshold = 0.1});
}

// As in training_schedules.py.
struct Case {
  const char* name;
  LRSchedulerConfig::Interval interval;
  int64_t frequency;
  const char* monitor;
  int64_t window;
  std::function<Scheduler(OptimizerPtr)> make;
};

const std::vector<Case>& cases() {
  using namespace lr_schedulers;
  static const std::vector<Case> all = {
      {"epoch", LRSchedulerConfig::Interval::epoch, 1, "", 1,
       [](OptimizerPtr o) { return step(o, {.step_size = 2, .gamma = 0.5}); }},
      {"every_third_epoch", LRSchedulerConfig::Interval::epoch, 3, "", 1,
       [](OptimizerPtr o) { return exponential(o, {.gamma = 0.6}); }},
      {"step", LRSchedulerConfig::Interval::step, 1, "", 1,
       [](OptimizerPtr o) { return one_cycle(o, {.max_lr = {0.2}, .total_steps = 51}); }},
      {"every_fourth_step", LRSchedulerConfig::Interval::step, 4, "", 1,
       [](OptimizerPtr o) { return cosine_annealing_warm_restarts(o, {.T_0 = 5}); }},
      {"step_of_window", LRSchedulerConfig::Interval::step, 1, "", 4,
       [](OptimizerPtr o) { return cyclic(o, {.base_lr = {0.01}, .max_lr = {0.2}, .step_size_up = 6}); }},
      {"plateau_of_training", LRSchedulerConfig::Interval::epoch, 1, "train_loss_epoch", 1, plateau},
      {"plateau_of_validation", LRSchedulerConfig::Interval::epoch, 2, "val_loss", 1, plateau},
      {"plateau_of_steps", LRSchedulerConfig::Interval::step, 5, "train_loss_step", 1, plateau}};
  return all;
}

// Logs its losses, and keeps the rate of each step.
class Scheduled : public Perceptron {
 public:
  using Perceptron::Perceptron;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    auto output = Perceptron::training_step(batch, batch_idx);
    log("train_loss", output.loss(), {.on_step = true, .on_epoch = true});
    return output;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    const auto loss = error(batch);
    log("val_loss", loss);
    log("val_sum", loss, {.reduce_fx = Reduce::sum});
    log("val_min", loss, {.reduce_fx = Reduce::min});
    log("val_max", loss, {.reduce_fx = Reduce::max});
    log("val_of_two", loss, {.batch_size = 2});
    return {};
  }
  void on_before_optimizer_step(torch::optim::Optimizer& optimizer, int64_t) override {
    rates.push_back(torch::tensor({optimizer.param_groups()[0].options().get_lr()}, torch::kFloat64));
  }
  std::vector<torch::Tensor> rates;
};

class TrainingSchedulesParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { reference_ = pytorch_reference("training_schedules.py"); }
  static void TearDownTestSuite() { reference_.clear(); }

  static std::shared_ptr<Scheduled> fit(const NumberType& type, const Perceptron::MakeOptimizers& make,
                                        TrainerOptions options) {
    Trainer trainer(bare(type.precision, std::move(options)));
    return trainer.fit(std::make_shared<Scheduled>(reference_, type.type, make), batches_of(reference_, type.type, 8),
                       batches_of(reference_, type.type, 8, -1, ".val"));
  }
  static OptimizerPtr sgd(std::vector<torch::Tensor> parameters) {
    return optim::sgd(std::move(parameters), {.lr = 0.1, .momentum = 0.9});
  }

  static Tensors reference_;
};
Tensors TrainingSchedulesParity::reference_;

TEST_F(TrainingSchedulesParity, RatesFollowIntervalFrequencyAndMetric) {
  for (const auto& c : cases()) {
    for (const auto& type : number_types) {
      const auto key = std::string(c.name) + "." + type.name;
      SCOPED_TRACE(key);
      const auto make = [&](std::vector<torch::Tensor> parameters) -> Optimizers {
        const auto optimizer = sgd(std::move(parameters));
        return {optimizer, LRSchedulerConfig{.scheduler = c.make(optimizer),
                                             .interval = c.interval,
                                             .frequency = c.frequency,
                                             .monitor = c.monitor}};
      };
      const auto model = fit(type, make, {.max_steps = 50, .accumulate_grad_batches = c.window});
      ASSERT_EQ(model->rates.size(), 50u);
      expect_close(torch::stack(model->rates), reference_.at(key + ".rates"), 1e-14, key + ".rates");
      expect_losses(model->losses, reference_, key, type.tolerance);
      expect_weights(*model->net, reference_, key, type.tolerance);
    }
  }
}

// Keeps what monitors would see at the end of each epoch.
class Metrics : public Callback {
 public:
  void on_train_epoch_end(RunContext& run, Module&) override {
    for (const auto& [name, value] : run.callback_metrics()) {
      values[name].push_back(torch::tensor(value, torch::kFloat64));
    }
  }
  std::map<std::string, std::vector<torch::Tensor>> values;
};

// The last batches are short, so that a mean over batches would be another number.
TEST_F(TrainingSchedulesParity, AnEpochsMeanIsThatOfItsSamples) {
  for (const auto& type : number_types) {
    SCOPED_TRACE(type.name);
    const auto metrics = std::make_shared<Metrics>();
    fit(type, sgd, {.max_epochs = 10, .callbacks = {metrics}});
    for (const std::string name : {"train_loss", "val_loss", "val_sum", "val_min", "val_max", "val_of_two"}) {
      SCOPED_TRACE(name);
      const auto& values = metrics->values[name == "train_loss" ? "train_loss_epoch" : name];
      ASSERT_EQ(values.size(), 10u);
      const auto key = "means." + std::string(type.name) + "." + name;
      expect_close(torch::stack(values), reference_.at(key), type.tolerance, key);
    }
  }
}

// Until it diverges; the suggestion is the same step.
TEST_F(TrainingSchedulesParity, ALearningRateFinderHasLightningsCurve) {
  for (const auto mode : {LrFindMode::exponential, LrFindMode::linear}) {
    for (const auto& type : number_types) {
      const auto key = "lr_find_" + name_of(mode) + "." + type.name;
      SCOPED_TRACE(key);
      const auto model = std::make_shared<Perceptron>(reference_, type.type, sgd);
      Trainer trainer(bare(type.precision));
      const auto found = Tuner(trainer).lr_find(model, batches_of(reference_, type.type, 45, -1, ".find"),
                                                {.min_lr = 1e-5,
                                                 .max_lr = mode == LrFindMode::linear ? 3.0 : 50.0,
                                                 .num_training = 60,
                                                 .mode = mode,
                                                 .update_attr = false});
      const auto numbers = [](const std::vector<double>& values) { return torch::tensor(values, torch::kFloat64); };
      ASSERT_EQ(static_cast<int64_t>(found.lr.size()), reference_.at(key + ".rates").size(0));
      expect_close(numbers(found.lr), reference_.at(key + ".rates"), 1e-12, key + ".rates");
      // Losses grow to thousands before they are known to diverge.
      const auto relative = [&](const std::vector<double>& ours, const std::string& what) {
        const auto theirs = reference_.at(key + what).to(torch::kFloat64);
        expect_close(numbers(ours) / theirs, torch::ones_like(theirs), 10 * type.tolerance, key + what);
      };
      relative(found.raw_loss, ".losses");
      relative(found.loss, ".smoothed");
      EXPECT_EQ(static_cast<double>(*found.suggestion_index()), reference_.at(key + ".suggestion").item<double>());
      EXPECT_TRUE(found.stopped_early);
    }
  }
}

}  // namespace
}  // namespace troupe
