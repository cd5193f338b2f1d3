// The callbacks that the library brings, in whole runs.
#include "tests/support/lines.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <chrono>
#include <cmath>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// With the same first weights each time.
template <class M>
std::shared_ptr<M> fresh() {
  torch::manual_seed(1);
  return std::make_shared<M>();
}

class CallbacksOfARun : public ::testing::Test {
 protected:
  template <class M>
  std::shared_ptr<M> fit(std::shared_ptr<M> module, std::vector<std::shared_ptr<Callback>> callbacks,
                         int64_t epochs = 2, RunArguments arguments = {}, bool validates = false) {
    auto options = quiet(dir_);
    options.max_epochs = epochs;
    options.callbacks = std::move(callbacks);
    options.log_every_n_steps = 1;
    trainer_ = std::make_unique<Trainer>(options);
    return trainer_->fit(std::move(module), points(), validates ? DataLoaders(points(64, false)) : DataLoaders(),
                         std::move(arguments));
  }
  RunArguments last() const { return {.ckpt_path = (trainer_->run_dir() / "checkpoints/last.safetensors").string()}; }
  double metric(const std::string& name) const { return trainer_->callback_metrics().at(name); }
  bool has_metric(const std::string& name) const { return trainer_->callback_metrics().contains(name); }

  TempDir dir_;
  std::unique_ptr<Trainer> trainer_;
};

// --- LearningRateMonitor ---

class ScheduledForMonitors : public Line {
 public:
  Optimizers configure_optimizers() override {
    const auto optimizer =
        optim::adam({{.params = {layer_->weight}, .lr = 0.1}, {.params = {layer_->bias}}}, {.lr = 1});
    return {optimizer, {.scheduler = lr_schedulers::exponential(optimizer, {.gamma = 0.5}), .interval = interval}};
  }
  LRSchedulerConfig::Interval interval = LRSchedulerConfig::Interval::epoch;
};

TEST_F(CallbacksOfARun, LearningRatesAreLoggedByGroup) {
  fit(std::make_shared<ScheduledForMonitors>(),
      {std::make_shared<LearningRateMonitor>(LearningRateMonitorOptions{.log_momentum = true})});
  EXPECT_DOUBLE_EQ(metric("lr-Adam/pg1"), 0.05);
  EXPECT_DOUBLE_EQ(metric("lr-Adam/pg2"), 0.5);
  EXPECT_DOUBLE_EQ(metric("lr-Adam/pg1-momentum"), 0.9);
  const auto by_step = std::make_shared<ScheduledForMonitors>();
  by_step->interval = LRSchedulerConfig::Interval::step;
  fit(by_step, {std::make_shared<LearningRateMonitor>()});
  EXPECT_DOUBLE_EQ(metric("lr-Adam/pg2"), std::pow(0.5, 7));
  fit(fresh<Line>(), {std::make_shared<LearningRateMonitor>()});
  EXPECT_DOUBLE_EQ(metric("lr-SGD"), 0.1);
}

// --- Timer ---

TEST_F(CallbacksOfARun, TheTimerEndsTheRunAndCountsOnAfterAResume) {
  const auto timer = std::make_shared<Timer>(TimerOptions{.duration = std::chrono::milliseconds(0)});
  fit(fresh<Line>(), {timer}, 10);
  EXPECT_EQ(trainer_->global_step(), 1);
  EXPECT_THAT(trainer_->stop_reason(), HasSubstr("Timer"));
  EXPECT_LT(timer->time_remaining()->count(), 0);
  const double before = timer->time_elapsed().count();
  EXPECT_GT(before, 0);
  const auto first = last();
  fit(fresh<Line>(), {std::make_shared<Timer>(TimerOptions{.duration = std::chrono::milliseconds(0)})}, 10, first);
  EXPECT_EQ(trainer_->global_step(), 1) << "no time is left";
  const auto second = std::make_shared<Timer>();
  fit(fresh<Line>(), {second}, 10, first);
  EXPECT_GT(second->time_elapsed().count(), before * 0.5);
  EXPECT_FALSE(second->time_remaining());
  EXPECT_EQ(trainer_->current_epoch(), 10);
  EXPECT_THAT(refusal([] { Timer({.duration = std::chrono::milliseconds(-1)}); }), HasSubstr("negative"));
  EXPECT_NE(refusal([&] { second->load_state_dict({{"time_elapsed", {{"fit", -1}}}}); }), "accepted");
}

// --- GradientAccumulationScheduler ---

TEST_F(CallbacksOfARun, AccumulationChangesByEpoch) {
  fit(fresh<Line>(), {std::make_shared<GradientAccumulationScheduler>(std::map<int64_t, int64_t>{{1, 2}, {2, 4}})}, 3);
  EXPECT_EQ(trainer_->global_step(), 4 + 2 + 1);
  EXPECT_THAT(refusal([] { GradientAccumulationScheduler(std::map<int64_t, int64_t>()); }), HasSubstr("no epoch"));
  EXPECT_THAT(refusal([] {
                GradientAccumulationScheduler(std::map<int64_t, int64_t>{{0, 0}});
              }),
              HasSubstr("0 batches"));
}

// --- LambdaCallback ---

TEST_F(CallbacksOfARun, FunctionsAreCallbacksToo) {
  std::vector<std::string> calls;
  fit(fresh<Line>(),
      {std::make_shared<LambdaCallback>(LambdaCallbackOptions{
          .on_train_start = [&](RunContext&, Module&) { calls.push_back("start"); },
          .on_train_epoch_end = [&](RunContext& run,
                                    Module&) { calls.push_back("epoch " + std::to_string(run.progress().epoch)); },
          .on_train_batch_end =
              [&](RunContext&, Module&, const StepOutput& output, const Batch&, int64_t batch_idx) {
                EXPECT_FALSE(output.loss().requires_grad());
                if (batch_idx == 3) calls.push_back("batch 3");
              },
          .teardown = [&](RunContext&, Module&, Stage) { calls.push_back("teardown"); }})});
  EXPECT_THAT(calls, ElementsAre("start", "batch 3", "epoch 0", "batch 3", "epoch 1", "teardown"));
}

// --- WeightAveraging ---

// Keeps the weight after each step, and what validation saw.
class Traced : public Line {
 public:
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override { weights.push_back(weight()); }
  void on_validation_epoch_start() override { validated.push_back(weight()); }
  std::vector<double> weights, validated;
};

TEST_F(CallbacksOfARun, TheExponentialAverageIsWhatValidationSeesAndWhatRemains) {
  const auto average = std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.75});
  const auto model = std::make_shared<Traced>();
  fit(model, {average}, 2, {}, /*validates=*/true);
  ASSERT_EQ(model->weights.size(), 8u);
  std::vector<double> expected = {model->weights[0]};
  for (std::size_t i = 1; i < 8; ++i) expected.push_back(0.75 * expected.back() + 0.25 * model->weights[i]);
  // The first validation is the sanity check, before any average.
  ASSERT_EQ(model->validated.size(), 3u);
  EXPECT_NEAR(model->validated[1], expected[3], 1e-6);
  EXPECT_NEAR(model->validated[2], expected[7], 1e-6);
  EXPECT_NEAR(model->weight(), expected[7], 1e-6);
  EXPECT_EQ(average->updates(), 8);
}

TEST_F(CallbacksOfARun, TheStochasticAverageCountsEpochsAlike) {
  const auto model = std::make_shared<Traced>();
  fit(model,
      {std::make_shared<WeightAveraging>(
          WeightAveragingOptions{.update_every_n_steps = 0, .update_starting_at_epoch = 1})},
      4);
  const auto& w = model->weights;
  EXPECT_NEAR(model->weight(), (w[7] + w[11] + w[15]) / 3, 1e-6);
}

TEST_F(CallbacksOfARun, AResumedAverageGoesOnExactly) {
  const auto make = [] { return std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9}); };
  const auto whole = fit(fresh<Line>(), {make()}, 4);
  const auto middle = std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "middle", .save_top_k = -1, .every_n_train_steps = 6});
  fit(fresh<Line>(), {make(), middle}, 4);
  const auto path = trainer_->run_dir() / "checkpoints/middle.safetensors";
  const auto resumed = fit(fresh<Line>(), {make()}, 4, {.ckpt_path = path.string()});
  EXPECT_EQ(resumed->weight(), whole->weight());
  EXPECT_EQ(resumed->bias(), whole->bias());
  // The model in the file is the average.
  const auto checkpoint = read_checkpoint(path);
  EXPECT_FALSE(
      torch::equal(*checkpoint.find("model.layer.weight"), *checkpoint.find("callback.WeightAveraging.layer.weight")));
  EXPECT_THAT(refusal([] { WeightAveraging({.decay = 1.0}); }), HasSubstr("decay = 1"));
}

// --- BackboneFinetuning ---

class Transfer : public Module {
 public:
  Transfer() {
    backbone_ = register_module("backbone", torch::nn::Sequential(torch::nn::Linear(1, 4), torch::nn::BatchNorm1d(4)));
    head_ = register_module("head", torch::nn::Linear(4, 1));
  }
  torch::Tensor forward(torch::Tensor x) override { return head_(backbone_->forward(x)); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(forward(batch[0]), batch[1]);
  }
  Optimizers configure_optimizers() override { return optim::adam(trainable(*this), {.lr = 0.02}); }
  void on_train_epoch_end() override {
    const auto& groups = trainer().optimizers()[0].param_groups();
    rates.push_back(groups.size() > 1 ? groups.back().options().get_lr() : 0);
    first.push_back(parameters()[0].detach().clone());
  }
  std::vector<double> rates;
  std::vector<torch::Tensor> first;

 private:
  torch::nn::Sequential backbone_{nullptr};
  torch::nn::Linear head_{nullptr};
};

std::shared_ptr<BackboneFinetuning> backbone_finetuning() {
  return std::make_shared<BackboneFinetuning>(BackboneFinetuningOptions{.unfreeze_backbone_at_epoch = 2});
}

TEST_F(CallbacksOfARun, TheBackboneIsFrozenAndJoinsLater) {
  const auto model = fit(fresh<Transfer>(), {backbone_finetuning()}, 7);
  const auto& r = model->rates;
  ASSERT_EQ(r.size(), 7u);
  EXPECT_THAT(std::vector<double>(r.begin(), r.begin() + 2), ElementsAre(0, 0));
  EXPECT_DOUBLE_EQ(r[2], 0.002);
  EXPECT_DOUBLE_EQ(r[3], 0.004);
  EXPECT_DOUBLE_EQ(r[5], 0.016);
  EXPECT_DOUBLE_EQ(r[6], 0.02);
  EXPECT_TRUE(torch::equal(model->first[0], model->first[1]));
  EXPECT_FALSE(torch::equal(model->first[1], model->first[2]));
}

TEST_F(CallbacksOfARun, ARunGoesOnWithTheBackboneInItsGroup) {
  const auto whole = fit(fresh<Transfer>(), {backbone_finetuning()}, 6);
  fit(fresh<Transfer>(), {backbone_finetuning()}, 4);
  const auto resumed = fit(fresh<Transfer>(), {backbone_finetuning()}, 6, last());
  for (std::size_t i = 0; i < whole->parameters().size(); ++i) {
    EXPECT_TRUE(torch::equal(whole->parameters()[i], resumed->parameters()[i])) << i;
  }
  EXPECT_THAT(error_of([&] { fit(fresh<Line>(), {backbone_finetuning()}); }), HasSubstr("no submodule 'backbone'"));
}

// --- Monitors of speed and memory ---

TEST_F(CallbacksOfARun, SpeedAndMemoryAreLogged) {
  fit(fresh<Line>(), {std::make_shared<ThroughputMonitor>(), std::make_shared<DeviceStatsMonitor>()});
  EXPECT_NEAR(metric("train/samples_per_sec") / metric("train/batches_per_sec"), 16, 1e-6);
  EXPECT_GT(metric("device/cpu_rss_mb"), 10);
  EXPECT_GT(metric("device/cpu_percent"), 0);
  EXPECT_FALSE(has_metric("device/cuda_allocated_mb"));
  EXPECT_THAT(refusal([] { ThroughputMonitor(1); }), HasSubstr("window_size = 1"));
}

// --- OnExceptionCheckpoint ---

class Failing : public Line {
 public:
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (fails && current_epoch() == 1 && batch_idx == 2) throw std::runtime_error("out of luck");
    return Line::training_step(batch, batch_idx);
  }
  StepOutput predict_step(const Batch& batch, int64_t batch_idx) override {
    if (fails && batch_idx == 2) throw std::runtime_error("out of luck");
    return Line::predict_step(batch, batch_idx);
  }
  bool fails = true;
};

TEST_F(CallbacksOfARun, AFailedRunGoesOnAtTheBatchThatFailed) {
  const auto fine = fresh<Failing>();
  fine->fails = false;
  fit(fine, {});
  const auto model = fresh<Failing>();
  EXPECT_THAT(error_of([&] { fit(model, {std::make_shared<OnExceptionCheckpoint>()}); }), HasSubstr("out of luck"));
  const auto path = trainer_->run_dir() / "checkpoints/on_exception.safetensors";
  const auto resumed = fresh<Failing>();
  resumed->fails = false;
  fit(resumed, {}, 2, {.ckpt_path = path.string()});
  EXPECT_EQ(trainer_->global_step(), 8);
  EXPECT_EQ(resumed->weight(), fine->weight());
  EXPECT_THAT(refusal([] { OnExceptionCheckpoint({}, "a/b"); }), HasSubstr("one file"));
}

// --- ModelSummary ---

TEST_F(CallbacksOfARun, TheExampleIsOfTheRunsPrecision) {
  for (const auto precision : {Precision::float32, Precision::float64, Precision::float16_true,
                               Precision::bfloat16_true, Precision::bfloat16_mixed}) {
    auto options = quiet(dir_);
    options.precision = precision;
    options.enable_model_summary = true;
    options.max_epochs = 1;
    const auto model = fresh<Line>();
    model->example_input_array = torch::ones({1, 1});
    EXPECT_EQ(error_of([&] { Trainer(options).fit(model, points()); }), "") << name_of(precision);
    EXPECT_EQ(error_of([&] { model->to_onnx(dir_ / "line.onnx"); }), "") << name_of(precision);
    auto script = model->to_torchscript();
    const auto x = torch::full({2, 1}, 0.5).to(model->parameters()[0].scalar_type());
    EXPECT_TRUE(torch::equal(script.forward({x}).toTensor(), model->forward(x))) << name_of(precision);
    EXPECT_EQ(model->example_input_array.scalar_type(), torch::kFloat) << "the module's own stays what it is";
  }
}

// --- PredictionWriter ---

TEST_F(CallbacksOfARun, PredictionsAreWrittenByBatchAndByEpoch) {
  const auto folder = dir_ / "predictions";
  auto options = quiet(dir_);
  options.callbacks = {std::make_shared<PredictionWriter>(
      PredictionWriterOptions{.output_dir = folder, .write_interval = WriteInterval::batch_and_epoch})};
  Trainer trainer(options);
  const auto model = fresh<Line>();
  trainer.predict(model, {points(24, false), points(64, false)});
  const SafetensorsFile whole(folder / "predictions_0.safetensors"), last(folder / "batch_0_2.safetensors");
  EXPECT_EQ(whole.entries().at(0).name, "prediction");
  EXPECT_EQ(whole.entries().at(0).shape, (std::vector<int64_t>{64, 1}));
  EXPECT_EQ(last.entries().at(0).shape, (std::vector<int64_t>{16, 1}));
  // One that fails leaves nothing for the next one.
  EXPECT_THAT(error_of([&] { trainer.predict(fresh<Failing>(), points(16, false)); }), HasSubstr("out of luck"));
  trainer.predict(model, {points(24, false), points(64, false)});
  EXPECT_EQ(SafetensorsFile(folder / "predictions_0.safetensors").entries().at(0).shape, (std::vector<int64_t>{64, 1}));
  const SafetensorsFile other(folder / "batch_1_0.safetensors");
  EXPECT_TRUE(torch::equal(whole.read(whole.entries()[0]), other.read(other.entries()[0])));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 3 + 1 + 2);
  class Scalar : public Line {
    StepOutput predict_step(const Batch& batch, int64_t) override { return {{"mean", forward(batch[0]).mean()}}; }
  };
  EXPECT_THAT(
      error_of([&] { trainer.predict(fresh<Scalar>(), points(24, false)); }),
      HasSubstr("PredictionWriter: 'mean', which predict_step returned, is a scalar; give it a first dimension"));
  EXPECT_THAT(refusal([] { PredictionWriter(PredictionWriterOptions{}); }), HasSubstr("output_dir"));
}

// --- What modules may ask for ---

class Asking : public Line {
 public:
  StepOutput predict_step(const Batch& batch, int64_t) override {
    const auto y = forward(batch[0]);
    write_prediction("y", y);
    write_prediction_dict({{"x", batch[0]}, {"twice", y * 2}}, "more.safetensors");
    return {};
  }
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    if (wrong_rows) write_prediction("y", torch::zeros({1, batch_idx + 1}));
    return Line::validation_step(batch, batch_idx);
  }
  void on_train_epoch_end() override {
    logger().log_histogram("weights", layer_->weight);
    logger().experiment<CsvSink>([seen = seen](CsvSink& sink) {
      sink.flush();
      *seen += 1;
    });
    EXPECT_EQ(global_rank() + local_rank(), 0);
    EXPECT_EQ(precision(), 32);
    EXPECT_FALSE(use_amp());
    EXPECT_TRUE(torch::equal(all_gather(layer_->weight), layer_->weight));
    EXPECT_EQ(datamodule(), nullptr);
    EXPECT_THROW(optimizer(1), UsageError);
    EXPECT_THROW(optimizers<2>(), UsageError);
  }
  bool wrong_rows = false;
  std::shared_ptr<int> seen = std::make_shared<int>(0);
};

TEST_F(CallbacksOfARun, ModulesReachTheSinksAndWritePredictions) {
  const auto model = fit(std::make_shared<Asking>(), {});
  EXPECT_EQ(*model->seen, 2);
  EXPECT_DOUBLE_EQ(model->model_size(), 8e-6);
  trainer_->predict(model, points(16, false));
  const SafetensorsFile file(trainer_->run_dir() / "predictions.safetensors");
  ASSERT_EQ(file.entries().size(), 1u);
  EXPECT_EQ(file.entries()[0].name, "y");
  EXPECT_EQ(file.entries()[0].shape, (std::vector<int64_t>{64, 1}));
  EXPECT_EQ(SafetensorsFile(trainer_->run_dir() / "more.safetensors").entries().size(), 2u);
  model->wrong_rows = true;
  EXPECT_THAT(error_of([&] { trainer_->validate(model, points(16, false)); }),
              AllOf(HasSubstr("write_prediction(\"y\""), HasSubstr("its rows are [2]")));
  EXPECT_THAT(refusal([&] { model->write_prediction("y", torch::ones(1)); }), HasSubstr("outside of a run"));
}

}  // namespace
}  // namespace troupe
