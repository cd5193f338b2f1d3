// The parts of a replica, each by itself, with two tensors and without a Trainer.
#include "tests/support/ranks_in_memory.hpp"
#include "troupe/modules/lr_schedulers/decay.hpp"
#include "troupe/modules/lr_schedulers/plateau.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/modules/optim/sgd.hpp"
#include "troupe/runtime/replica/curve_axis.hpp"
#include "troupe/runtime/replica/device_shards.hpp"
#include "troupe/runtime/replica/gradient_sync.hpp"
#include "troupe/runtime/replica/metric_board.hpp"
#include "troupe/runtime/replica/schedules.hpp"
#include "troupe/runtime/replica/train_stepper.hpp"
#include "troupe/runtime/replica/validation_beside.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// What a replica's parts have to say.
class Said : public ReplicaOutputs {
 public:
  void record(Record record) override {
    if (auto* held = std::get_if<ScalarsRecord>(&record)) scalars.push_back(std::move(*held));
  }
  void print(std::string line) override { lines.push_back(std::move(line)); }
  void note(std::string line) override { lines.push_back(std::move(line)); }
  void stop_requested(const std::string& reason) override { lines.push_back(reason); }

  std::vector<ScalarsRecord> scalars;
  std::vector<std::string> lines;
};

// One weight, which each batch pulls along its samples: the gradient is their mean.
class Weight : public Module {
 public:
  Weight() { weight = register_parameter("weight", torch::ones({1})); }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    return on_batch ? on_batch(batch, batch_idx) : StepOutput((weight * batch[0]).mean());
  }
  torch::Tensor weight;
  std::function<StepOutput(const Batch&, int64_t)> on_batch;
};

// All parts, and the run that leads to them.
class Rig final : public RunContext {
 public:
  explicit Rig(TrainerOptions options = {}, std::shared_ptr<Peers> peers = nullptr)
      : core(setup_of(std::move(options), std::move(peers)), said, *this),
        board(core),
        schedules(core, board),
        sync(core),
        sizes(said),
        stepper(core, board, schedules, sync, sizes) {
    core.module = module;
    module->attach(this);
  }
  ~Rig() override { module->attach(nullptr); }

  // The beginning of a fit with one optimizer for the weight.
  void train_with(const std::function<LRSchedulerConfig(const OptimizerPtr&)>& scheduler = nullptr) {
    const OptimizerPtr sgd = optim::sgd(module->parameters(), {.lr = 0.5});
    core.optimizers = scheduler ? Optimizers(sgd, scheduler(sgd)) : Optimizers(sgd);
    stepper.configure();
    stepper.compile();
    stepper.refresh();
    stepper.begin_epoch(false);
  }
  void batch(const std::vector<float>& samples, bool is_last = false) {
    const Batch batch({torch::tensor(samples)});
    stepper.train_batch(batch, core.progress.batch_idx, is_last, std::nullopt);
  }
  double weight() const { return module->weight.item().toDouble(); }

  const TrainerOptions& options() const override { return core.options(); }
  const std::filesystem::path& run_dir() const override { return core.setup.run_dir; }
  Stage stage() const override { return core.setup.stage; }
  bool sanity_checking() const override { return false; }
  const Progress& progress() const override { return core.progress; }
  bool logs_this_batch() const override { return board.is_logged(core.progress.log_step + 1); }
  torch::Device device() const override { return core.setup.device; }
  int64_t global_rank() const override { return core.place().global_rank; }
  int64_t local_rank() const override { return core.place().local_rank; }
  int64_t world_size() const override { return core.place().world_size; }
  std::optional<int64_t> estimated_stepping_batches(int64_t) const override { return std::nullopt; }
  Optimizers& optimizers() override { return core.optimizers; }
  void toggle_optimizer(std::size_t index) override { stepper.toggle(index); }
  void untoggle_optimizer(std::size_t) override { stepper.untoggle(); }
  void manual_backward(const torch::Tensor& loss) override { stepper.manual_backward(loss); }
  void step_optimizer(std::size_t index, const OptimizerClosure& closure) override {
    stepper.step_optimizer(index, closure);
  }
  Precision precision() const override { return core.precision; }
  void set_accumulate_grad_batches(int64_t batches) override { stepper.set_accumulate_grad_batches(batches); }
  void save_checkpoint(const std::filesystem::path&) override {}
  torch::Tensor whole_gradient_norm(const torch::optim::Optimizer&, torch::Tensor norm) override { return norm; }
  torch::Tensor all_gather(const torch::Tensor& tensor) override { return tensor; }
  DataModule* datamodule() override { return nullptr; }
  void log(std::string_view name, const torch::Tensor& value, const LogOptions& options) override {
    board.log(name, value, options);
  }
  void log(std::string_view name, double value, const LogOptions& options) override { board.log(name, value, options); }
  void log(std::string_view name, Metric& metric, const LogOptions& options) override {
    board.log(name, metric, options);
  }
  void emit(Record record) override { said.record(std::move(record)); }
  void write_prediction(std::string_view, const torch::Tensor&, const std::string&) override {}
  const MetricMap& callback_metrics() const override { return board.callback_metrics(); }
  const MetricMap& logged_metrics() const override { return board.logged_metrics(); }
  const MetricMap& progress_bar_metrics() const override { return board.progress_bar_metrics(); }
  void request_stop(std::string reason) override { said.stop_requested(reason); }
  bool should_stop() const override { return false; }
  void print(std::string line) override { said.print(std::move(line)); }
  void note(std::string line) override { said.note(std::move(line)); }

  Said said;
  std::shared_ptr<Weight> module = std::make_shared<Weight>();
  ReplicaCore core;
  MetricBoard board;
  Schedules schedules;
  GradientSync sync;
  BatchSizes sizes;
  TrainStepper stepper;

 private:
  static ReplicaSetup setup_of(TrainerOptions options, std::shared_ptr<Peers> peers) {
    ReplicaSetup setup;
    setup.overridden = module_hooks<Weight>();
    setup.options = std::make_shared<const TrainerOptions>(std::move(options));
    setup.peers = std::move(peers);
    return setup;
  }
};

// --- During ---

TEST(During, ANameIsGoneAfterwardsAndStaysIfSomethingThrows) {
  Pulse pulse("worker");
  {
    const During during(pulse, "reading");
    EXPECT_EQ(pulse.place(), "reading");
  }
  EXPECT_EQ(pulse.place(), to_string(Hook::prepare_data));
  try {
    const During during(pulse, "writing");
    throw std::runtime_error("disk full");
  } catch (const std::runtime_error&) {
    EXPECT_EQ(pulse.place(), "writing");
  }
}

// --- TrainStepper ---

TEST(TrainStepper, ABatchMovesTheWeightByItsGradient) {
  Rig rig;
  rig.train_with();
  rig.batch({1, 2});
  EXPECT_DOUBLE_EQ(rig.weight(), 1 - 0.5 * 1.5);
  EXPECT_EQ(rig.core.progress.global_step, 1);
  EXPECT_EQ(rig.core.progress.batch_idx, 1);
}

TEST(TrainStepper, AWindowOfTwoBatchesMakesOneStepWithTheMeanOfItsSamples) {
  Rig rig({.accumulate_grad_batches = 2});
  rig.train_with();
  rig.batch({1, 1, 1});
  EXPECT_EQ(rig.weight(), 1);
  rig.batch({5});
  EXPECT_NEAR(rig.weight(), 1 - 0.5 * 2, 1e-6);
  EXPECT_EQ(rig.core.progress.global_step, 1);
  EXPECT_EQ(rig.core.progress.log_step, 1);
}

TEST(TrainStepper, TheLastBatchOfAnEpochClosesAShortWindow) {
  Rig rig({.accumulate_grad_batches = 3});
  rig.train_with();
  rig.batch({2}, /*is_last=*/true);
  EXPECT_NEAR(rig.weight(), 1 - 0.5 * 2, 1e-6);
}

TEST(TrainStepper, ABatchWithoutALossMakesNoStep) {
  Rig rig;
  rig.train_with();
  rig.module->on_batch = [](const Batch&, int64_t) { return StepOutput(); };
  rig.batch({1});
  EXPECT_EQ(rig.weight(), 1);
  EXPECT_EQ(rig.core.progress.global_step, 0);
  EXPECT_EQ(rig.core.progress.total_batches, 1);
}

TEST(TrainStepper, ALossThatNoParameterLeadsToIsRefused) {
  Rig rig;
  rig.train_with();
  rig.module->on_batch = [](const Batch& batch, int64_t) { return StepOutput(batch[0].mean()); };
  try {
    rig.batch({1});
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("depends on no parameter"));
  }
}

TEST(TrainStepper, ManualOptimizationStepsWithinTrainingStep) {
  Rig rig;
  rig.module->automatic_optimization = false;
  rig.train_with();
  rig.module->on_batch = [&](const Batch& batch, int64_t) {
    for (int i = 0; i < 2; ++i) {
      auto optimizer = rig.module->optimizers<1>()[0];
      optimizer.zero_grad();
      rig.module->manual_backward((rig.module->weight * batch[0]).mean());
      optimizer.step();
    }
    return StepOutput();
  };
  rig.batch({1});
  EXPECT_EQ(rig.weight(), 0);
  EXPECT_EQ(rig.core.progress.global_step, 2);
}

TEST(TrainStepper, AnOpenWindowGoesOnFromACheckpoint) {
  Checkpoint checkpoint;
  Rig first({.accumulate_grad_batches = 2});
  first.train_with();
  first.batch({1, 1, 1});
  first.stepper.append_windows(checkpoint);
  Rig second({.accumulate_grad_batches = 2});
  second.train_with();
  second.stepper.restore_windows(checkpoint);
  second.core.progress = first.core.progress;
  second.batch({5});
  EXPECT_NEAR(second.weight(), 1 - 0.5 * 2, 1e-6);
  Checkpoint later;
  second.stepper.append_windows(later);
  EXPECT_FALSE(later.metadata.contains("windows")) << "the step has closed it: " << later.metadata.dump();
}

// --- MetricBoard ---

TEST(MetricBoard, TheValueOfEverySecondStepReachesTheSinks) {
  Rig rig({.log_every_n_steps = 2});
  for (const double value : {1, 2, 3, 4}) {
    rig.board.begin_batch();
    rig.board.set_origin(Hook::training_step, /*step_allowed=*/true, /*on_step=*/true, /*batch_size=*/1);
    rig.board.log("loss", value, {});
    rig.core.progress.log_step += 1;
    rig.board.end_of_batch(/*stepped=*/true);
  }
  ASSERT_EQ(rig.said.scalars.size(), 2u);
  EXPECT_EQ(rig.said.scalars[0].step, 1);
  EXPECT_THAT(rig.said.scalars[0].values, ElementsAre(Pair("loss", 2)));
  EXPECT_THAT(rig.said.scalars[1].values, ElementsAre(Pair("loss", 4)));
  EXPECT_EQ(rig.board.callback_metrics().at("loss"), 4);
}

TEST(MetricBoard, AnEpochsMeanIsWeightedAndWrittenOnce) {
  Rig rig;
  for (const int64_t size : {1, 3}) {
    rig.board.begin_batch();
    rig.board.set_origin(Hook::training_step, true, /*on_step=*/false, size);
    rig.board.log("loss", static_cast<double>(size), {});
  }
  rig.board.flush_epoch();
  EXPECT_EQ(rig.board.callback_metrics().at("loss"), 2.5);
  EXPECT_THAT(rig.said.scalars, IsEmpty());
  rig.board.write_epoch_record();
  rig.board.write_epoch_record();
  ASSERT_EQ(rig.said.scalars.size(), 1u);
  EXPECT_THAT(rig.said.scalars[0].values, ElementsAre(Pair("loss", 2.5)));
}

TEST(MetricBoard, NothingIsKeptOfAnEvaluationThatIsCut) {
  Rig rig;
  rig.board.begin_evaluation(/*discards=*/false);
  rig.board.begin_batch();
  rig.board.set_origin(Hook::validation_step, true, /*on_step=*/false, 1);
  rig.board.log("val_loss", 1.0, {});
  rig.board.discard();
  rig.board.flush_epoch();
  rig.board.write_epoch_record();
  rig.board.end_evaluation();
  EXPECT_THAT(rig.board.callback_metrics(), IsEmpty());
  EXPECT_THAT(rig.said.scalars, IsEmpty());
}

TEST(MetricBoard, TheLatestValuesComeBackAlsoThoseThatAreNoNumber) {
  Rig first, second;
  first.board.set_origin(Hook::on_train_epoch_end, false, false, 1);
  first.board.log("loss", std::nan(""), {});
  first.board.flush_epoch();
  second.board.load_latest(first.board.latest());
  EXPECT_TRUE(std::isnan(second.board.callback_metrics().at("loss")));
}

// --- Schedules ---

TEST(Schedules, OneThatCountsStepsMovesAfterEverySecondStep) {
  Rig rig;
  rig.train_with([](const OptimizerPtr& optimizer) {
    return LRSchedulerConfig{.scheduler = lr_schedulers::step(optimizer, {.step_size = 1, .gamma = 0.1}),
                             .interval = LRSchedulerConfig::Interval::step,
                             .frequency = 2};
  });
  const auto rate = [&] { return rig.core.optimizers[0].param_groups()[0].options().get_lr(); };
  rig.schedules.after_step(0);
  EXPECT_DOUBLE_EQ(rate(), 0.5);
  rig.schedules.after_step(0);
  EXPECT_DOUBLE_EQ(rate(), 0.05);
  rig.schedules.after_epoch(/*with_metric=*/false);
  EXPECT_DOUBLE_EQ(rate(), 0.05);
}

TEST(Schedules, OneThatLooksAtAMetricLooksOnceAtEachValueAndRefusesAnotherName) {
  Rig rig;
  rig.train_with([](const OptimizerPtr& optimizer) {
    return LRSchedulerConfig{.scheduler = lr_schedulers::reduce_on_plateau(optimizer, {.factor = 0.1, .patience = 0}),
                             .monitor = "loss"};
  });
  const auto rate = [&] { return rig.core.optimizers[0].param_groups()[0].options().get_lr(); };
  try {
    rig.schedules.after_epoch(/*with_metric=*/true);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("monitors 'loss', which was not logged; no metric was"));
  }
  rig.board.set_origin(Hook::on_train_epoch_end, false, false, 1);
  for (int epoch = 1; epoch < 3; ++epoch) {
    rig.core.progress.epoch = epoch;
    if (epoch == 1) rig.board.log("loss", 1.0, {});
    rig.board.flush_epoch();
    rig.schedules.after_epoch(/*with_metric=*/true);
    EXPECT_DOUBLE_EQ(rate(), 0.5) << epoch;
  }
  rig.core.progress.epoch = 3;
  rig.board.log("loss", 1.0, {});  // no better than before
  rig.board.flush_epoch();
  rig.schedules.after_epoch(/*with_metric=*/true);
  EXPECT_DOUBLE_EQ(rate(), 0.05);
}

TEST(Schedules, TheirStateComesBackAndThatOfOthersIsRefused) {
  const auto every_third = [](const OptimizerPtr& optimizer) {
    return LRSchedulerConfig{.scheduler = lr_schedulers::step(optimizer, {.step_size = 1, .gamma = 0.1}),
                             .interval = LRSchedulerConfig::Interval::step,
                             .frequency = 3};
  };
  Rig first, second, other;
  first.train_with(every_third);
  second.train_with(every_third);
  other.train_with();
  first.schedules.after_step(0);
  first.schedules.after_step(0);
  second.schedules.load_state_dict(first.schedules.state_dict());
  second.schedules.after_step(0);
  EXPECT_DOUBLE_EQ(second.core.optimizers[0].param_groups()[0].options().get_lr(), 0.05);
  EXPECT_THROW(other.schedules.load_state_dict(first.schedules.state_dict()), UsageError);
}

// --- GradientSync ---

// Runs `rank` on two threads, which are the ranks of a run.
void on_two_ranks(const TrainerOptions& options, const std::function<void(Rig&)>& rank) {
  on_ranks(2, [&](Peers& peers) {
    Rig rig(options, std::shared_ptr<Peers>(std::shared_ptr<void>(), &peers));  // which outlive it
    rank(rig);
  });
}

TEST(GradientSync, AloneThereIsNobodyToAverageWith) {
  Rig rig;
  rig.train_with();
  EXPECT_EQ(rig.sync.averager(0), nullptr);
  EXPECT_EQ(rig.sync.sharded(0), nullptr);
  EXPECT_EQ(rig.sync.parameters_of(0).size(), 1u);
}

TEST(GradientSync, AGradientBecomesTheMeanOfTheRanks) {
  on_two_ranks({.strategy = Strategy::ddp}, [](Rig& rig) {
    rig.train_with();
    GradientAverager* averager = rig.sync.averager(0);
    ASSERT_NE(averager, nullptr);
    averager->begin();
    const auto loss = rig.module->weight.sum() * (rig.global_rank() == 0 ? 1 : 3);
    averager->prepare(loss);
    loss.backward();
    averager->finish();
    EXPECT_EQ(rig.module->weight.grad().item().toDouble(), 2);
  });
}

TEST(GradientSync, RanksThatDivideAnOptimizerHaveTheSameWeightAfterItsStep) {
  on_two_ranks({.strategy = Strategy::zero}, [](Rig& rig) {
    rig.train_with();
    ASSERT_NE(rig.sync.sharded(0), nullptr);
    EXPECT_EQ(rig.sync.holder_of(rig.module->weight), rig.sync.sharded(0));
    rig.batch({rig.global_rank() == 0 ? 1.0f : 3.0f});
    EXPECT_EQ(rig.weight(), 0);
  });
}

// --- DeviceShards ---

class Logging : public Module {
 public:
  explicit Logging(const LogOptions& options) : options_(options) {
    weight = register_parameter("weight", torch::ones({1}));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    log("mean", batch[0].mean(), options_);
    print("a shard");
    return (weight * batch[0]).sum();
  }
  torch::Tensor weight;

 private:
  LogOptions options_;
};

TEST(DeviceShards, ABatchInTwoShardsIsLoggedAsOneAndTheModuleHasItsRunAgain) {
  Rig rig;
  const LogOptions options = {.on_step = false, .on_epoch = true};
  const auto made = std::make_shared<Logging>(options);
  Logging& module = *made;
  module.attach(&rig);
  DeviceShards::Setup setup;
  setup.devices = {torch::kCPU};
  setup.make_module = [&] { return std::make_shared<Logging>(options); };
  setup.prepare = [](Module&, torch::Device) {};
  DeviceShards shards(rig, module, std::move(setup));
  rig.board.set_origin(Hook::training_step, true, true, 3);
  const auto step = [](Module& copy, const Batch& shard) { return copy.training_step(shard, 0); };
  const auto [outputs, sizes] = shards.run(Batch({torch::tensor({1.0f, 2.0f, 6.0f})}), step, 0);
  EXPECT_THAT(sizes, ElementsAre(2, 1));
  const torch::Tensor loss = outputs[0].loss() + outputs[1].loss();
  loss.backward();
  shards.collect_gradients();
  EXPECT_EQ(module.weight.grad().item().toDouble(), 9);
  rig.board.flush_epoch();
  EXPECT_DOUBLE_EQ(rig.board.callback_metrics().at("mean"), 3);
  EXPECT_THAT(rig.said.lines, ElementsAre("a shard", "a shard"));
  EXPECT_EQ(&module.trainer(), &rig);
  module.attach(nullptr);
}

// Whether a metric of the fit, at `log_step` as it counts, is to be written.
bool is_new(CurveAxis& axis, int64_t log_step) {
  ScalarsRecord record{.step = log_step, .epoch = 0, .values = {{"loss", 1.0}}};
  return axis.place(record);
}

Progress at_log_step(int64_t log_step) {
  return {.global_step = log_step, .total_batches = log_step, .log_step = log_step};
}

TEST(CurveAxis, ARunThatGoesBackWritesNothingTwiceIfItHasWritten) {
  CurveAxis axis;
  axis.begin_fit({});
  for (int64_t step = 1; step <= 10; ++step) EXPECT_TRUE(is_new(axis, step)) << step;
  axis.end_fit(at_log_step(10));
  axis.go_back(/*has_written=*/true);
  axis.begin_fit(at_log_step(6));
  EXPECT_FALSE(is_new(axis, 7));
  EXPECT_FALSE(is_new(axis, 9));
  EXPECT_TRUE(is_new(axis, 11));
  // Once more, before it was as far.
  axis.end_fit(at_log_step(11));
  axis.go_back(true);
  axis.begin_fit(at_log_step(6));
  EXPECT_FALSE(is_new(axis, 7));
  axis.end_fit(at_log_step(7));
  axis.go_back(true);
  axis.begin_fit(at_log_step(6));
  EXPECT_FALSE(is_new(axis, 10));
  EXPECT_TRUE(is_new(axis, 12));
}

TEST(CurveAxis, ARunThatTakesOverFromALostWriterWritesAllFromThereOn) {
  CurveAxis axis;
  axis.begin_fit({});
  for (int64_t step = 1; step <= 10; ++step) is_new(axis, step);
  axis.end_fit(at_log_step(10));
  axis.go_back(/*has_written=*/false);
  axis.go_back(true);  // one more was lost before it had begun: it has written nothing still
  axis.begin_fit(at_log_step(6));
  EXPECT_TRUE(is_new(axis, 7));
  EXPECT_TRUE(is_new(axis, 8));
  // From now on it is the writer.
  axis.end_fit(at_log_step(8));
  axis.go_back(true);
  axis.begin_fit(at_log_step(6));
  EXPECT_FALSE(is_new(axis, 7));
  EXPECT_TRUE(is_new(axis, 9));
}

TEST(CurveAxis, AFitThatGoesBackKeepsItsPlaceInTheFolder) {
  CurveAxis axis;
  axis.begin_fit({});
  is_new(axis, 20);
  axis.end_fit(at_log_step(20));
  axis.begin_fit({});  // a further fit, written behind the first
  ScalarsRecord record{.step = 5, .epoch = 0, .values = {}};
  axis.place(record);
  EXPECT_EQ(record.step, 25);
  axis.end_fit(at_log_step(5));
  axis.go_back(true);
  axis.begin_fit(at_log_step(2));
  record.step = 6;
  EXPECT_TRUE(axis.place(record));
  EXPECT_EQ(record.step, 26);
}

ModelAtStep model_at(int64_t step, bool is_of_epoch_end) {
  const auto whole = [&](double weight) {
    Checkpoint state;
    state.tensors = {{"model.weight", torch::full({2}, weight)}, {"random.cpu", torch::ones({3})}};
    state.metadata = {{"progress", {{"global_step", step}}}, {"of", weight}};
    return std::make_shared<const Checkpoint>(std::move(state));
  };
  ModelAtStep model;
  model.progress = {.global_step = step};
  model.state = whole(1);
  if (is_of_epoch_end) model.saved = whole(2);
  model.left_out = {{"frozen", torch::full({1}, 3.0)}};
  model.random_states = {{"random.cpu", torch::zeros({3})}};
  model.latest = {{"callback", {{"loss", 0.5}}}};
  model.batches = 7;
  return model;
}

TEST(ValidationBeside, ComesBackFromACheckpoint) {
  Checkpoint checkpoint;
  checkpoint.tensors = {{"model.weight", torch::zeros({2})}};
  append_validation(checkpoint, model_at(4, /*is_of_epoch_end=*/true));
  append_validation(checkpoint, model_at(6, /*is_of_epoch_end=*/false));
  const ModelAtStep first = validation_in(checkpoint, 0), second = validation_in(checkpoint, 1);
  EXPECT_EQ(first.progress, (Progress{.global_step = 4}));
  EXPECT_EQ(second.progress, (Progress{.global_step = 6}));
  EXPECT_TRUE(first.state->find("model.weight")->equal(torch::ones({2})));
  EXPECT_TRUE(first.saved->find("model.weight")->equal(torch::full({2}, 2.0)));
  EXPECT_EQ(first.saved->metadata["of"], 2.0);
  EXPECT_EQ(second.saved, nullptr);
  EXPECT_EQ(second.state->tensors.size(), 2u);
  EXPECT_THAT(second.left_out, ElementsAre(Pair("frozen", ::testing::_)));
  EXPECT_TRUE(second.random_states.front().second.equal(torch::zeros({3})));
  EXPECT_EQ(second.latest["callback"]["loss"], 0.5);
  EXPECT_EQ(second.batches, 7);
}

TEST(ValidationBeside, RefusesWhatIsDamaged) {
  Checkpoint checkpoint;
  append_validation(checkpoint, model_at(4, /*is_of_epoch_end=*/true));
  for (const char* key : {"metadata", "progress", "latest_metrics", "validation_batches", "saved"}) {
    Checkpoint damaged = checkpoint;
    damaged.metadata["validations"][0][key] = "damaged";
    EXPECT_THROW(validation_in(damaged, 0), CheckpointError) << key;
  }
}

}  // namespace
}  // namespace troupe
