// Validation beside the training (trainer.async_validation): the same numbers as in turn, at the same steps, while the
// training goes on.
#include "tests/support/lines.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/same_bits.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

namespace somebodys {
namespace {

struct Listener : troupe::Callback {
  void on_validation_end(troupe::RunContext&, troupe::Module&) override { ++calls; }
  int calls = 0;
};
struct Replicated : Listener {
  std::shared_ptr<troupe::Callback> replicate() const override { return std::make_shared<Replicated>(); }
};

}  // namespace
}  // namespace somebodys

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

struct NormedOptions {
  double lr = 0.05;
  bool schedule_free = false;
};
TROUPE_OPTIONS(NormedOptions, (lr, "learning rate"), (schedule_free, "train with schedule-free AdamW"))

// Has what evaluation reads besides parameters (statistics of batch norm), and what draws random numbers in training.
class NormedNet : public ModuleWith<NormedOptions> {
 public:
  explicit NormedNet(NormedOptions options) : ModuleWith(options) {
    net_ = register_module("net", torch::nn::Sequential(torch::nn::Linear(1, 16), torch::nn::BatchNorm1d(16),
                                                        torch::nn::Dropout(0.3), torch::nn::Linear(16, 1)));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = error(batch);
    log("train_loss", loss, {.on_step = true, .on_epoch = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t, int64_t) override {
    log("val_loss", error(batch), {.on_step = true, .on_epoch = true, .prog_bar = true});
    log("at_epoch", static_cast<double>(current_epoch()));
    return {};
  }
  Optimizers configure_optimizers() override {
    if (this->options().schedule_free) return optim::schedule_free_adamw(parameters(), {.lr = this->options().lr});
    return optim::adam(parameters(), {.lr = this->options().lr});
  }
  torch::Tensor error(const Batch& batch) {
    auto [x, y] = batch.get<2>();
    return torch::mse_loss(forward(x), y);
  }

 private:
  torch::nn::Sequential net_;
};

// What sinks get, by name: step, epoch and value.
class Kept : public Sink {
 public:
  struct Point {
    int64_t step, epoch;
    double value;
    bool operator==(const Point&) const = default;
  };
  std::string name() const override { return "kept"; }
  void write(const Record& record) override {
    const auto* scalars = std::get_if<ScalarsRecord>(&record);
    if (!scalars) return;
    for (const auto& [metric, value] : scalars->values)
      points[metric].push_back({scalars->step, scalars->epoch, value});
  }
  void flush() override {}
  std::map<std::string, std::vector<Point>> points;
};

struct Fitted {
  std::shared_ptr<NormedNet> module;
  std::shared_ptr<Kept> kept = std::make_shared<Kept>();
  MetricMap metrics;
  std::filesystem::path folder;
};

class AsyncValidation : public ::testing::Test {
 protected:
  TrainerOptions options(bool async, const std::string& folder) const {
    auto options = quiet(dir_);
    options.default_root_dir = dir_.path() / folder;
    options.async_validation = async;
    options.max_epochs = 4;
    options.num_threads = 1;
    options.log_every_n_steps = 1;
    options.loggers = {};
    return options;
  }
  template <class M = NormedNet>
  Fitted fit(TrainerOptions options, const NormedOptions& model = {}, RunArguments arguments = {}) const {
    Fitted out;
    options.sinks = {out.kept};
    Trainer trainer(options);
    out.module = trainer.fit<M>(model, points(), {points(16, false), points(64, false)}, std::move(arguments));
    out.metrics = trainer.callback_metrics();
    out.folder = trainer.run_dir() / "checkpoints";
    return out;
  }
  static void expect_same(const Fitted& turn, const Fitted& beside) {
    EXPECT_EQ(turn.kept->points, beside.kept->points);
    EXPECT_EQ(turn.metrics, beside.metrics);
    expect_same_weights(*turn.module, *beside.module);
  }
  static void expect_same_weights(const torch::nn::Module& a, const torch::nn::Module& b) {
    for (const auto& item : a.named_parameters()) {
      EXPECT_TRUE(has_same_bits(item.value(), b.named_parameters()[item.key()])) << item.key();
    }
    for (const auto& item : a.named_buffers()) {
      EXPECT_TRUE(has_same_bits(item.value(), b.named_buffers()[item.key()])) << item.key();
    }
  }

  const TempDir dir_;
};

TEST_F(AsyncValidation, LogsWhatOneInTurnLogsAndTrainsToTheSameBits) {
  const auto turn = fit(options(false, "turn"));
  ASSERT_THAT(turn.kept->points.at("val_loss/dataloader_idx_0_epoch"), SizeIs(4));
  expect_same(turn, fit(options(true, "beside")));
}

TEST_F(AsyncValidation, IsTheSameWithinEpochs) {
  auto turn = options(false, "turn"), beside = options(true, "beside");
  turn.val_check_interval = beside.val_check_interval = 0.25;
  expect_same(fit(turn), fit(beside));
}

TEST_F(AsyncValidation, SeesTheWeightsThatAreToBeEvaluated) {
  const NormedOptions schedule_free{.schedule_free = true};
  expect_same(fit(options(false, "turn"), schedule_free), fit(options(true, "beside"), schedule_free));
  auto turn = options(false, "turn"), beside = options(true, "beside");
  turn.callbacks = {std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9})};
  beside.callbacks = {std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9})};
  const auto averaged = fit(turn);
  expect_same(averaged, fit(beside));
  EXPECT_NE(averaged.kept->points, fit(options(false, "plain")).kept->points);
}

// A weight of its is in no checkpoint, and not as the constructor has made it.
class PartlySaved : public NormedNet {
 public:
  explicit PartlySaved(NormedOptions options) : NormedNet(options) { save_only_trainable = true; }
  void on_fit_start() override {
    parameters().front().set_requires_grad(false);
    parameters().front().fill_(0.5);
  }
};

TEST_F(AsyncValidation, SeesWeightsThatCheckpointsLeaveOut) {
  const auto turn = fit<PartlySaved>(options(false, "turn"));
  expect_same(turn, fit<PartlySaved>(options(true, "beside")));
  EXPECT_NE(turn.kept->points, fit(options(false, "plain")).kept->points);
}

TEST_F(AsyncValidation, IsTheSameWithCapturedSteps) {
  auto beside = options(true, "beside");
  beside.capture_step = CaptureStep::automatic;
  expect_same(fit(options(false, "turn")), fit(beside));
}

TEST_F(AsyncValidation, ActorsHearOfItsStep) {
  auto run = options(true, "beside");
  Trainer trainer(run);
  std::vector<int64_t> steps;
  trainer.add_actor("listener", [&](const Event& event, RunHandle&) {
    if (const auto* ended = std::get_if<ValidationEnded>(&event)) steps.push_back(ended->progress.global_step);
  });
  trainer.fit<NormedNet>({}, points(), points(64, false));
  EXPECT_THAT(steps, ElementsAre(4, 8, 12, 16));
}

// Blocks until somebody opens it.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    opened_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [&] { return is_open_; });
  }
  void close() { is_open_ = false; }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

Gate gate;

// Its validation waits for the gate, which the training opens at a step.
struct GatedOptions {
  int64_t opens_at = 6;
};
TROUPE_OPTIONS(GatedOptions, (opens_at, "step"))

class Gated : public ModuleWith<GatedOptions> {
 public:
  explicit Gated(GatedOptions options) : ModuleWith(options) { weight_ = register_parameter("weight", torch::ones(1)); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    if (global_step() == options().opens_at) gate.open();
    return (weight_ * batch[0]).square().mean();
  }
  StepOutput validation_step(const Batch&, int64_t) override {
    gate.pass();
    log("val_loss", weight_);
    log("at_step", static_cast<double>(global_step()));
    return {};
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.1); }

 protected:
  torch::Tensor weight_;
};

TrainerOptions gated(const TempDir& dir) {
  gate.close();
  auto options = quiet(dir);
  options.async_validation = true;
  options.num_sanity_val_steps = 0;
  options.loggers = {};
  return options;
}

TEST_F(AsyncValidation, TrainingGoesOnMeanwhile) {
  const auto kept = std::make_shared<Kept>();
  auto options = gated(dir_);
  options.sinks = {kept};
  Trainer trainer(options);
  trainer.fit<Gated>({.opens_at = 6}, points(), points(64));  // in turn, the validation of step 4 would wait for ever
  EXPECT_THAT(kept->points.at("at_step"), ElementsAre(Kept::Point{3, 0, 4}, Kept::Point{7, 1, 8}));
}

// Of an averaged metric: the weights that the value belongs to.
double weight_in(const std::filesystem::path& path) {
  return read_checkpoint(path).find("model.weight")->item<double>();
}

TEST_F(AsyncValidation, ACheckpointHoldsTheStateThatItsValueBelongsTo) {
  auto options = gated(dir_);
  const auto best = std::make_shared<ModelCheckpoint>(
      ModelCheckpointOptions{.filename = "{step}", .monitor = "val_loss", .save_top_k = -1, .save_last = true});
  const auto kept = std::make_shared<Kept>();
  options.callbacks = {best};
  options.sinks = {kept};
  options.max_epochs = 3;
  Trainer trainer(options);
  trainer.fit<Gated>({.opens_at = 7}, points(), points(64));
  for (const auto& [step, epoch, value] : kept->points.at("val_loss")) {
    const auto path = trainer.run_dir() / "checkpoints" / ("step=" + std::to_string(step + 1) + ".safetensors");
    ASSERT_TRUE(std::filesystem::exists(path)) << path;
    EXPECT_EQ(weight_in(path), value);
    const auto metadata = read_checkpoint(path).metadata;
    EXPECT_EQ(metadata[metadata_key::progress]["global_step"], step + 1);
    EXPECT_EQ(metadata[metadata_key::loop][metadata_key::validated_batches], step + 1);
  }
  EXPECT_EQ(kept->points.at("val_loss").size(), 3u);
  EXPECT_EQ(best->best_model_score(), kept->points.at("val_loss").back().value);
  EXPECT_EQ(weight_in(trainer.run_dir() / "checkpoints/last.safetensors"), kept->points.at("val_loss").back().value);
}

TEST_F(AsyncValidation, MonitorsDecideAsInTurn) {
  std::vector<std::set<std::string>> files;
  std::vector<MetricMap> scores;
  for (const bool async : {false, true}) {
    auto run = options(async, async ? "beside" : "turn");
    const auto best = std::make_shared<ModelCheckpoint>(
        ModelCheckpointOptions{.filename = "{epoch}-{step}-{val_loss/dataloader_idx_1_epoch}-{train_loss_epoch}",
                               .monitor = "val_loss/dataloader_idx_1_epoch",
                               .save_top_k = 2,
                               .auto_insert_metric_name = false});
    run.callbacks = {best};
    run.max_epochs = 6;
    const auto fitted = fit(run);
    files.emplace_back();
    for (const auto& entry : std::filesystem::directory_iterator(fitted.folder)) {
      files.back().insert(entry.path().filename().string());
    }
    scores.push_back({{"best", best->best_model_score().value()}, {"kth", best->kth_value().value()}});
  }
  EXPECT_THAT(files[0], SizeIs(2));
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(scores[0], scores[1]);
}

TEST_F(AsyncValidation, GoesOnFromACheckpointAsIfItHadNotStopped) {
  const auto whole = fit(options(true, "whole"));
  auto parts = options(true, "parts");
  parts.max_epochs = 2;
  const auto first = fit(parts);
  parts.max_epochs = 4;
  const auto second = fit(parts, {}, {.ckpt_path = (first.folder / "last.safetensors").string()});
  expect_same_weights(*whole.module, *second.module);
  auto all = first.kept->points;
  for (const auto& [name, points] : second.kept->points)
    all[name].insert(all[name].end(), points.begin(), points.end());
  EXPECT_EQ(whole.kept->points, all);
  EXPECT_EQ(whole.metrics, second.metrics);
}

class GrowsWorse : public Gated {
 public:
  using Gated::Gated;
  StepOutput validation_step(const Batch&, int64_t) override {
    if (!trainer().sanity_checking()) log("val_loss", static_cast<double>(global_step()));
    return {};
  }
};

TEST_F(AsyncValidation, EarlyStoppingStopsWhenTheResultHasCome) {
  auto options = gated(dir_);
  options.max_epochs = 1000000;
  options.callbacks = {std::make_shared<EarlyStopping>(EarlyStoppingOptions{.monitor = "val_loss", .patience = 2})};
  Trainer trainer(options);
  trainer.fit<GrowsWorse>({}, points(), points(64));
  EXPECT_THAT(trainer.stop_reason(), HasSubstr("val_loss did not improve on 4 for 2 checks"));
  EXPECT_GE(trainer.global_step(), 12);
  EXPECT_EQ(trainer.callback_metrics().at("val_loss"),
            static_cast<double>(trainer.global_step()));  // the last is known
}

class BreaksInValidation : public Gated {
 public:
  using Gated::Gated;
  StepOutput validation_step(const Batch&, int64_t) override {
    if (!trainer().sanity_checking()) throw std::runtime_error("the validation broke");
    return {};
  }
};

TEST_F(AsyncValidation, AFailureEndsTheRunWithItsCauseP6) {
  auto options = gated(dir_);
  options.max_epochs = 1000000;
  options.num_sanity_val_steps = 1;
  Trainer trainer(options);
  const auto error = error_of([&] { trainer.fit<BreaksInValidation>({}, points(), points(64)); });
  EXPECT_THAT(error, AllOf(HasSubstr("the validation broke"), HasSubstr("validation_step")));
  EXPECT_NE(trainer.module(), nullptr);
}

// While the validation of step 4 is under way.
class Interrupted : public Gated {
 public:
  using Gated::Gated;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    if (global_step() == 6) raise(SIGINT);
  }
  StepOutput validation_step(const Batch&, int64_t) override {
    log("val_loss", weight_);
    return {};
  }
};

TEST_F(AsyncValidation, AnInterruptEndsTheRunInOrder) {
  auto options = gated(dir_);
  options.max_epochs = 1000000;
  options.name = "gated";
  Trainer trainer(options);
  trainer.fit<Interrupted>({}, points(), points(64));
  EXPECT_TRUE(trainer.was_interrupted());
  const auto last = trainer.run_dir() / "checkpoints/last.safetensors";
  ASSERT_TRUE(std::filesystem::exists(last));
  options.max_epochs = trainer.global_step() / 4 + 2;
  Trainer resumed(options);
  resumed.fit<Interrupted>({}, points(), points(64), {.ckpt_path = last.string()});
  EXPECT_EQ(resumed.global_step(), *options.max_epochs * 4);
  EXPECT_TRUE(resumed.callback_metrics().contains("val_loss"));
}

// At step 6, while the validation of step 4 is under way and until the training has come to its end.
class InterruptedMeanwhile : public Gated {
 public:
  using Gated::Gated;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    if (global_step() == 6) raise(SIGINT);
  }
  void on_train_end() override { gate.open(); }
};

TEST_F(AsyncValidation, ARunThatGoesOnMakesUpWhatWasUnderWay) {
  auto options = gated(dir_);
  const auto first_kept = std::make_shared<Kept>(), second_kept = std::make_shared<Kept>();
  const ModelCheckpointOptions all{.filename = "{step}", .monitor = "val_loss", .save_top_k = -1, .save_last = true};
  options.max_epochs = 1000000;
  options.callbacks = {std::make_shared<ModelCheckpoint>(all)};
  options.sinks = {first_kept};
  Trainer first(options);
  first.fit<InterruptedMeanwhile>({.opens_at = -1}, points(), points(64));
  ASSERT_TRUE(first.was_interrupted());
  EXPECT_FALSE(first_kept->points.contains("val_loss"));
  const auto last = first.run_dir() / "checkpoints/last.safetensors";
  const auto pending = read_checkpoint(last).metadata.at(metadata_key::validations).size();
  // The interrupt may come just before that of step 8 is begun.
  EXPECT_GE(pending, first.global_step() > 8 ? 2u : 1u);
  EXPECT_LE(pending, first.global_step() >= 8 ? 2u : 1u);

  options.max_epochs = 4;
  options.callbacks = {std::make_shared<ModelCheckpoint>(all)};
  options.sinks = {second_kept};
  Trainer second(options);
  second.fit<Gated>({.opens_at = -1}, points(), points(64), {.ckpt_path = last.string()});
  EXPECT_THAT(second_kept->points.at("at_step"),
              ElementsAre(Kept::Point{3, 0, 4}, Kept::Point{7, 1, 8}, Kept::Point{11, 2, 12}, Kept::Point{15, 3, 16}));
  const auto of_step_4 = second.run_dir() / "checkpoints/step=4.safetensors";
  ASSERT_TRUE(std::filesystem::exists(of_step_4));
  EXPECT_EQ(weight_in(of_step_4), second_kept->points.at("val_loss").front().value);
  Trainer third(options);  // what was written late is a run to go on from as any other
  third.fit<Gated>({.opens_at = -1}, points(), points(64), {.ckpt_path = of_step_4.string()});
  EXPECT_EQ(third.callback_metrics(), second.callback_metrics());
}

class AsksForTheEnd : public Gated {
 public:
  using Gated::Gated;
  StepOutput validation_step(const Batch&, int64_t) override { return {}; }
  void on_validation_end() override {
    if (!trainer().sanity_checking()) trainer().request_stop("validated enough");
  }
};

TEST_F(AsyncValidation, ItsHooksMayEndTheRun) {
  auto options = gated(dir_);
  options.max_epochs = 1000000;
  Trainer trainer(options);
  trainer.fit<AsksForTheEnd>({}, points(), points(64));
  EXPECT_EQ(trainer.stop_reason(), "validated enough");
}

class Plateaus : public Gated {
 public:
  using Gated::Gated;
  StepOutput validation_step(const Batch&, int64_t) override {
    log("val_loss", weight_);
    return {};
  }
  Optimizers configure_optimizers() override {
    auto optimizer = std::make_shared<torch::optim::SGD>(parameters(), 0.1);
    return {optimizer, LRSchedulerConfig{.scheduler = lr_schedulers::reduce_on_plateau(optimizer)}};
  }
};

TEST_F(AsyncValidation, IsRefusedWhereItCannotBe) {
  auto options = gated(dir_);
  {
    Trainer trainer(options);
    EXPECT_THAT(error_of([&] { trainer.fit(std::make_shared<Line>(), points(), points()); }),
                AllOf(HasSubstr("trainer.async_validation"), HasSubstr("fit<M>(options)")));
  }
  {
    options.num_sanity_val_steps = 1;
    Trainer trainer(options);
    EXPECT_THAT(error_of([&] { trainer.fit<Plateaus>({}, points(), points(64)); }),
                AllOf(HasSubstr("lr_scheduler 0"), HasSubstr("'val_loss'"), HasSubstr("async_validation")));
    EXPECT_EQ(trainer.global_step(), 0);  // the sanity check has shown it
  }
  options.devices = 2;
  Trainer trainer(options);
  EXPECT_THAT(error_of([&] { trainer.fit<Gated>({}, points(), points(64)); }),
              AllOf(HasSubstr("trainer.async_validation"), HasSubstr("one device, and this one has 2")));
}

class SavesBeside : public Gated {
 public:
  using Gated::Gated;
  StepOutput validation_step(const Batch&, int64_t) override {
    trainer().save_checkpoint("never.safetensors");
    return {};
  }
};

TEST_F(AsyncValidation, TheCopySavesNoCheckpoint) {
  Trainer trainer(gated(dir_));
  EXPECT_THAT(error_of([&] { trainer.fit<SavesBeside>({}, points(), points(64)); }),
              HasSubstr("save_checkpoint in a validation needs trainer.async_validation = false"));
}

TEST_F(AsyncValidation, NamesCallbacksThatDoNotHearOfIt) {
  auto options = gated(dir_);
  const auto listener = std::make_shared<somebodys::Listener>();
  options.callbacks = {listener, std::make_shared<somebodys::Replicated>(), std::make_shared<Timer>()};
  Trainer trainer(options);
  testing::internal::CaptureStderr();
  trainer.fit<Gated>({.opens_at = 1}, points(), points(64));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("have no replicate(): Listener\n"));
  EXPECT_EQ(listener->calls, 0);
}

TEST_F(AsyncValidation, DoesNothingWithoutAValidation) {
  auto options = gated(dir_);
  Trainer trainer(options);
  trainer.fit<Gated>({}, points());
  EXPECT_EQ(trainer.global_step(), 8);
}

}  // namespace
}  // namespace troupe
