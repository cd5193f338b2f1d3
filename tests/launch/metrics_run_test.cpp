// log(metric) in whole runs.
#include "tests/support/lines.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <cmath>

namespace troupe {
namespace {

using metrics::MeanAbsoluteError;
using metrics::MeanSquaredError;
using ::testing::HasSubstr;

// Logs metrics beside the loss that Line logs.
class MeasuredInRun : public Line {
 public:
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    auto [x, y] = batch.get<2>();
    train_mse(forward(x), y);
    log("train_mse", train_mse, {.on_step = true, .on_epoch = true});
    return Line::training_step(batch, batch_idx);
  }
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    auto [x, y] = batch.get<2>();
    EXPECT_EQ(val_mae->update_count(), batch_idx) << "each validation begins anew, after the sanity check too";
    val_mae.update(forward(x), y);
    by_hand.update(forward(x), y);
    log_dict({{"val_mae", val_mae}, {"batches", 1}}, {.prog_bar = true});
    return Line::validation_step(batch, batch_idx);
  }
  void on_validation_epoch_end() override {
    EXPECT_EQ(val_mae.compute().item<double>(), by_hand.compute().item<double>());
    log("by_hand", by_hand.compute());
    by_hand.reset();
  }
  StepOutput test_step(const Batch& batch, int64_t batch_idx) override {
    auto [x, y] = batch.get<2>();
    val_mae.update(forward(x), y);
    log("test_mae", val_mae);
    return Line::test_step(batch, batch_idx);
  }

  MetricHolder<MeanSquaredError> train_mse = register_metric("train_mse", MeanSquaredError());
  MetricHolder<MeanAbsoluteError> val_mae = register_metric("val_mae", MeanAbsoluteError());
  MetricHolder<MeanAbsoluteError> by_hand = register_metric("by_hand", MeanAbsoluteError());
};

double mean_absolute_error(Line& model) {
  const torch::NoGradGuard no_gradients;
  const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
  return (model.forward(x) - (2 * x + 1)).abs().mean().item<double>();
}

TEST(MetricsRun, AreLoggedByStepAndByEpochAndBeginAnew) {
  const TempDir dir;
  auto options = quiet(dir);
  options.log_every_n_steps = 1;
  Trainer trainer(options);
  // 64 points in batches of 24: 24, 24, 16.
  const auto model = trainer.fit<MeasuredInRun>({}, points(24), points(24, false));
  const auto& logged = trainer.callback_metrics();
  // Line logs the same error as a mean weighted by batch size, of values in float32.
  EXPECT_NEAR(logged.at("train_mse_epoch"), logged.at("train_loss_epoch"), 1e-6);
  EXPECT_NEAR(logged.at("train_mse_step"), logged.at("train_loss_step"), 1e-6);
  EXPECT_NEAR(logged.at("val_mae"), mean_absolute_error(*model), 1e-6) << "of the last epoch alone";
  EXPECT_EQ(logged.at("val_mae"), logged.at("by_hand"));
  EXPECT_EQ(model->train_mse->update_count(), 0);
  EXPECT_EQ(model->val_mae->update_count(), 0);
  const auto results = trainer.test(model, points(24, false));
  EXPECT_NEAR(results.at(0).at("test_mae"), mean_absolute_error(*model), 1e-6);
}

TEST(MetricsRun, DecideInEarlyStoppingAndModelCheckpoint) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 50;
  const auto checkpoint = std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.monitor = "val_mae"});
  options.callbacks = {checkpoint, std::make_shared<EarlyStopping>(
                                       EarlyStoppingOptions{.monitor = "val_mae", .stopping_threshold = 0.05})};
  Trainer trainer(options);
  trainer.fit<MeasuredInRun>({.lr = 0.3}, points(), points(64, false));
  EXPECT_LT(trainer.current_epoch(), 50);
  EXPECT_THAT(trainer.stop_reason(), HasSubstr("val_mae"));
  EXPECT_LT(trainer.callback_metrics().at("val_mae"), 0.05);
  EXPECT_THAT(trainer.best_model_path().string(), HasSubstr("checkpoints"));
}

// Takes the inputs for scores, of which those above 0.1 are a yes; one may be NaN.
class Scored : public Line {
 public:
  explicit Scored(bool has_nan) : has_nan_(has_nan) {}
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    auto scores = batch[0].flatten().clone();
    const auto target = scores > 0.1;
    if (has_nan_ && batch_idx == 0) scores[3] = NAN;
    accuracy.update(scores, target);
    auroc.update(scores, target.to(torch::kLong));
    log_dict({{"accuracy", accuracy}, {"auroc", auroc}});
    return {};
  }

  MetricHolder<metrics::Accuracy> accuracy =
      register_metric("accuracy", metrics::Accuracy({.task = metrics::Task::binary}));
  MetricHolder<metrics::AUROC> auroc = register_metric("auroc", metrics::AUROC({.task = metrics::Task::binary}));

 private:
  bool has_nan_;
};

TEST(MetricsRun, JudgeScoresOverAllBatches) {
  // Of the 64 points, in order, the last 32 are within 0 and 1. As logits the 3 from 0 to 0.1 are taken for a yes.
  for (const int64_t batch_size : {64, 16, 5}) {
    const TempDir dir;
    auto options = quiet(dir);
    options.num_threads = 1;
    Trainer trainer(options);
    const auto results = trainer.validate(std::make_shared<Scored>(false), points(batch_size, false));
    EXPECT_EQ(results.at(0).at("accuracy"), 61.0 / 64) << "batches of " << batch_size;
    EXPECT_EQ(results.at(0).at("auroc"), 1);
    const auto bad = trainer.validate(std::make_shared<Scored>(true), points(batch_size, false));
    EXPECT_TRUE(std::isnan(bad.at(0).at("accuracy")));
    EXPECT_TRUE(std::isnan(bad.at(0).at("auroc")));
  }
}

// --- Several loaders ---

class TwoLoaders : public MeasuredInRun {
 public:
  using MeasuredInRun::MeasuredInRun;
  StepOutput validation_step(const Batch& batch, int64_t, int64_t) override {
    auto [x, y] = batch.get<2>();
    val_mae.update(forward(x), y);
    log("val_mae", val_mae);
    return {};
  }
  void on_validation_epoch_end() override {}
};

TEST(MetricsRun, KeepLoadersApart) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
  const DataLoader far(std::make_shared<TensorDataset>(x, 2 * x + 101), {.batch_size = 24});
  const auto model = trainer.fit<TwoLoaders>({}, points(), DataLoaders({points(24, false), far}));
  const double error = mean_absolute_error(*model);
  EXPECT_NEAR(trainer.callback_metrics().at("val_mae/dataloader_idx_0"), error, 1e-6);
  EXPECT_NEAR(trainer.callback_metrics().at("val_mae/dataloader_idx_1"), 100, 2);
}

// --- Going on in the middle of an epoch ---

// Two epochs of four batches with a checkpoint after the third of the second; its path.
std::string middle_of_the_second_epoch(Trainer& trainer) {
  trainer.fit<MeasuredInRun>({}, points(), points());
  return (trainer.run_dir() / "checkpoints/middle.safetensors").string();
}

TrainerOptions with_middle(const TempDir& dir) {
  auto options = quiet(dir);
  options.callbacks = {std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "middle", .save_top_k = -1, .every_n_train_steps = 7})};
  return options;
}

TEST(MetricsRun, GoOnFromTheMiddleOfAnEpoch) {
  const TempDir dir;
  Trainer whole(with_middle(dir));
  const auto path = middle_of_the_second_epoch(whole);
  const auto checkpoint = read_checkpoint(path);
  ASSERT_NE(checkpoint.find("metric.train_mse.total"), nullptr);
  EXPECT_EQ(checkpoint.find("metric.train_mse.total")->item<int64_t>(), 48);
  EXPECT_EQ(checkpoint.find("metric.val_mae.total"), nullptr) << "of a validation that is over";
  EXPECT_EQ(checkpoint.metadata.at("metrics").at("train_mse").at("updates"), 3);

  Trainer resumed(quiet(dir));
  resumed.fit<MeasuredInRun>({}, points(), points(), {.ckpt_path = path});
  for (const char* name : {"train_mse_epoch", "train_loss_epoch", "val_mae", "val_loss"}) {
    EXPECT_EQ(resumed.callback_metrics().at(name), whole.callback_metrics().at(name)) << name;
  }
}

class SavesInValidation : public MeasuredInRun {
 public:
  using MeasuredInRun::MeasuredInRun;
  void on_validation_batch_end(const StepOutput&, const Batch&, int64_t batch_idx, int64_t) override {
    if (!trainer().sanity_checking() && current_epoch() == 0 && batch_idx == 1) {
      trainer().save_checkpoint(trainer().run_dir() / "validating.safetensors");
    }
  }
};

TEST(MetricsRun, OfAnUnfinishedValidationAreNotInACheckpoint) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  trainer.fit<SavesInValidation>({}, points(), points());
  const auto checkpoint = read_checkpoint(trainer.run_dir() / "validating.safetensors");
  EXPECT_EQ(checkpoint.find("metric.val_mae.total"), nullptr);
  ASSERT_NE(checkpoint.find("metric.train_mse.total"), nullptr);
  EXPECT_EQ(checkpoint.find("metric.train_mse.total")->item<int64_t>(), 64);
}

class Renamed : public Line {
 public:
  using Line::Line;
  MetricHolder<MeanAbsoluteError> train_mse = register_metric("train_mse", MeanAbsoluteError());
};

TEST(MetricsRun, OfAnotherModuleAreNotTaken) {
  const TempDir dir;
  Trainer whole(with_middle(dir));
  const RunArguments from{.ckpt_path = middle_of_the_second_epoch(whole)};
  Trainer other(quiet(dir));
  EXPECT_THAT(error_of([&] { other.fit<Renamed>({}, points(), points(), from); }),
              HasSubstr("state of the metric \"train_mse\" lacks \"sum_abs_error\": was the metric changed?"));
  Trainer without(quiet(dir));
  without.fit<Line>({}, points(), points(), from);
  EXPECT_EQ(without.callback_metrics().at("train_loss_epoch"), whole.callback_metrics().at("train_loss_epoch"));
}

// --- Misuse ---

class Unregistered : public Line {
 public:
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    log("mean", mean_, {.on_step = false, .on_epoch = true});
    return Line::training_step(batch, batch_idx);
  }

 private:
  metrics::MeanMetric mean_;
};

class LoggedTwice : public Line {
 public:
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    mean_(1.0);
    log("train_mean", mean_);
    return Line::training_step(batch, batch_idx);
  }
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    mean_(2.0);
    log("val_mean", mean_);
    return Line::validation_step(batch, batch_idx);
  }

 private:
  MetricHolder<metrics::MeanMetric> mean_ = register_metric("mean", metrics::MeanMetric());
};

class NeverUpdated : public Line {
 public:
  using Line::Line;
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    log("val_mean", mean_);
    return Line::validation_step(batch, batch_idx);
  }

 private:
  MetricHolder<metrics::MeanMetric> mean_ = register_metric("mean", metrics::MeanMetric());
};

// Logs in the hook that it is told.
class LogsAnywhere : public Line {
 public:
  explicit LogsAnywhere(std::string hook) : hook_(std::move(hook)) {}
  void in(std::string_view hook) {
    if (hook == hook_) log("here", 1.0);
  }
  void prepare_data() override { in("prepare_data"); }
  void setup(Stage) override { in("setup"); }
  void teardown(Stage) override { in("teardown"); }
  void on_fit_start() override { in("on_fit_start"); }
  void on_fit_end() override { in("on_fit_end"); }
  void on_pretrain_routine_start() override { in("on_pretrain_routine_start"); }
  void on_train_start() override { in("on_train_start"); }
  void on_train_end() override { in("on_train_end"); }
  void on_train_epoch_end() override { in("on_train_epoch_end"); }
  void on_save_checkpoint(nlohmann::json&) override { in("on_save_checkpoint"); }
  std::vector<std::shared_ptr<Callback>> configure_callbacks() override {
    in("configure_callbacks");
    return {};
  }
  Optimizers configure_optimizers() override {
    in("configure_optimizers");
    return Line::configure_optimizers();
  }
  DataLoaders train_dataloader() override {
    in("train_dataloader");
    return points();
  }
  StepOutput training_step(const Batch& batch, int64_t) override { return error(batch); }

 private:
  std::string hook_;
};

TEST(MetricsRun, AreLoggedInEpochsOnly) {
  for (const char* hook :
       {"prepare_data", "configure_callbacks", "on_fit_start", "setup", "configure_optimizers", "train_dataloader",
        "on_pretrain_routine_start", "on_save_checkpoint", "on_train_end", "on_fit_end", "teardown"}) {
    const TempDir dir;
    Trainer trainer(quiet(dir));
    EXPECT_THAT(error_of([&] { trainer.fit(std::make_shared<LogsAnywhere>(hook)); }),
                HasSubstr("log(\"here\") in " + std::string(hook) + ": no epoch is under way"));
  }
  for (const char* hook : {"on_train_start", "on_train_epoch_end"}) {
    const TempDir dir;
    Trainer trainer(quiet(dir));
    trainer.fit(std::make_shared<LogsAnywhere>(hook));
    EXPECT_EQ(trainer.callback_metrics().at("here"), 1) << hook;
  }
}

TEST(MetricsRun, SayWhatIsWrongWithALog) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  EXPECT_THAT(error_of([&] { trainer.fit<Unregistered>({}, points()); }),
              HasSubstr("log(\"mean\"): the MeanMetric is not one of the module's: register_metric it in the"));
  EXPECT_THAT(error_of([&] { trainer.fit<LoggedTwice>({}, points(), points()); }),
              HasSubstr("the metric \"mean\" is logged in training and in evaluation, where it would mix both"));
  EXPECT_THAT(error_of([&] { trainer.fit<NeverUpdated>({}, points(), points()); }),
              HasSubstr("log(\"val_mean\"): MeanMetric was logged but had no update in this epoch"));
}

}  // namespace
}  // namespace troupe
