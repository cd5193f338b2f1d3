// Whole runs of several processes: this program runs under mpirun, with 2, 3 and 4 ranks. Its disabled cases are faults
// that end it; ddp_faults_test runs them.
#include "tests/support/ddp.hpp"
#include "tests/support/shared_dir.hpp"

#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <numeric>
#include <vector>

namespace troupe {
namespace {

std::string bytes_of(const torch::Tensor& tensor) {
  const auto whole = tensor.contiguous();
  return {static_cast<const char*>(whole.const_data_ptr()), static_cast<std::size_t>(whole.nbytes())};
}

// Whether all ranks have the same bits.
bool is_same_everywhere(const torch::Tensor& tensor) {
  const auto all = Processes::get().all_gather_bytes(bytes_of(tensor));
  return std::ranges::all_of(all, [&](const auto& bytes) { return bytes == all.front(); });
}

Batch whole(int64_t count) {
  std::vector<int64_t> indices(static_cast<std::size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  return *samples(count)->get_batch(indices);
}

// Keeps the weights that training begins with.
class Recording : public Net {
 public:
  using Net::Net;
  void on_train_start() override {
    for (const auto& parameter : parameters()) start.push_back(parameter.detach().clone());
  }
  std::vector<torch::Tensor> start;
};

// What one rank makes of these weights with global batches in the order of the data.
torch::Tensor trained_alone(const std::vector<torch::Tensor>& start, int64_t count, int64_t batch, int64_t epochs) {
  Net net;
  net.to(torch::kFloat64);
  {
    const torch::NoGradGuard no_gradients;
    const auto parameters = net.parameters();
    for (std::size_t i = 0; i < start.size(); ++i) parameters[i].copy_(start[i]);
  }
  torch::optim::SGD optimizer(net.parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
  const auto data = whole(count);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t at = 0; at < count; at += batch) {
      const Batch part{data[0].slice(0, at, at + batch), data[1].slice(0, at, at + batch)};
      optimizer.zero_grad();
      net.error(part).backward();
      optimizer.step();
    }
  }
  return net.weights();
}

TEST(Ranks, TrainToTheWeightsOfOneRankWithTheSameGlobalBatch) {
  const SharedDir dir;
  auto& processes = Processes::get();
  Trainer trainer(dir.options());
  const auto model = trainer.fit<Recording>({}, DataLoader(samples(48), {.batch_size = 12 / processes.size()}));
  EXPECT_EQ(trainer.global_step(), 12);
  EXPECT_TRUE(is_same_everywhere(model->weights()));
  EXPECT_LE(largest_difference(model->weights(), trained_alone(model->start, 48, 12, 3)), 1e-6);
}

TEST(Ranks, OfTwoDevicesEachTrainTogether) {
  const SharedDir dir;
  auto& processes = Processes::get();
  auto options = dir.options();
  options.devices = 2;
  Trainer trainer(options);
  const auto model = trainer.fit<Recording>({}, DataLoader(samples(48), {.batch_size = 24 / (2 * processes.size())}));
  EXPECT_TRUE(is_same_everywhere(model->weights()));
  EXPECT_LE(largest_difference(model->weights(), trained_alone(model->start, 48, 24, 3)), 1e-6);
}

TEST(Ranks, ThatDivideStatesGradientsOrParametersTrainTheSame) {
  for (const auto strategy : {Strategy::zero, Strategy::zero2, Strategy::fsdp}) {
    for (const int64_t devices : {1, 2}) {
      const SharedDir dir;
      auto& processes = Processes::get();
      auto options = dir.options();
      options.strategy = strategy;
      options.devices = devices;
      Trainer trainer(options);
      const DataLoader loader(samples(48), {.batch_size = 24 / (devices * processes.size())});
      const auto model = trainer.fit<Recording>({}, loader, DataLoader(samples(10), {.batch_size = 4}));
      EXPECT_TRUE(is_same_everywhere(model->weights())) << name_of(strategy) << devices;
      EXPECT_LE(largest_difference(model->weights(), trained_alone(model->start, 48, 24, 3)), 1e-6)
          << name_of(strategy) << devices;
    }
  }
}

TEST(Ranks, ThatSendLittleEndWithTheSameWeights) {
  const auto trained = [](const std::function<void(TrainerOptions&)>& set, int64_t devices) {
    const SharedDir dir;
    auto options = dir.options();
    options.devices = devices;
    set(options);
    const DataLoader loader(samples(48), {.batch_size = 2});
    return Trainer(options).fit<Net>({.hidden = 40}, loader, DataLoader(samples(10), {.batch_size = 4}))->weights();
  };
  for (const int64_t devices : {1, 2}) {
    const auto plain = trained([](TrainerOptions&) {}, devices);
    const std::vector<std::function<void(TrainerOptions&)>> ways = {[](TrainerOptions& options) {
                                                                      options.gradient_compression =
                                                                          GradientCompression::powersgd;
                                                                      options.powersgd_start_step = 1;
                                                                    },
                                                                    [](TrainerOptions& options) {
                                                                      options.strategy = Strategy::local_sgd;
                                                                      options.local_steps = 2;
                                                                    },
                                                                    [](TrainerOptions& options) {
                                                                      options.strategy = Strategy::diloco;
                                                                      options.local_steps = 2;
                                                                    }};
    for (std::size_t i = 0; i < ways.size(); ++i) {
      const auto weights = trained(ways[i], devices);
      EXPECT_TRUE(is_same_everywhere(weights)) << i << devices;
      EXPECT_GT(largest_difference(weights, plain), 1e-6) << i << devices;
      EXPECT_TRUE(torch::isfinite(weights).all().item<bool>()) << i << devices;
    }
  }
}

TEST(Ranks, OfDevicesThatDivideBatchesTrainTheSame) {
  const SharedDir dir;
  auto& processes = Processes::get();
  auto options = dir.options();
  options.strategy = Strategy::ddp2;
  options.devices = 2;
  Trainer trainer(options);
  const auto model = trainer.fit<Recording>({}, DataLoader(samples(48), {.batch_size = 12 / processes.size()}));
  EXPECT_TRUE(is_same_everywhere(model->weights()));
  EXPECT_LE(largest_difference(model->weights(), trained_alone(model->start, 48, 12, 3)), 1e-6);
}

TEST(Ranks, CannotDivideABatchBetweenProcesses) {
  const SharedDir dir;
  auto options = dir.options();
  options.strategy = Strategy::dp;
  Trainer trainer(options);
  const auto error = error_of([&] { trainer.fit<Net>({}, DataLoader(samples(48), {.batch_size = 4})); });
  EXPECT_NE(error.find("strategy = dp divides batches among the devices of one process"), std::string::npos) << error;
}

TEST(Ranks, WriteTheirPredictionsOnceEach) {
  const SharedDir dir;
  auto& processes = Processes::get();
  auto options = dir.options();
  const auto folder = options.default_root_dir / "out";
  options.callbacks = {std::make_shared<PredictionWriter>(
      PredictionWriterOptions{.output_dir = folder, .write_interval = WriteInterval::batch_and_epoch})};
  Trainer trainer(options);
  trainer.fit<Net>({}, DataLoader(samples(24), {.batch_size = 24 / processes.size()}));
  trainer.predict(DataLoader(samples(11), {.batch_size = 1}));
  processes.all_gather_bytes("");  // all have written
  int64_t rows = 0, batches = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    const bool is_epoch = file.path().filename().string().find("predictions_0") != std::string::npos;
    (is_epoch ? rows : batches) += SafetensorsFile(file.path()).entries().at(0).shape.at(0);
  }
  EXPECT_EQ(rows, 11);
  EXPECT_EQ(batches, 11);
}

TEST(Ranks, EvaluateToTheMetricsOfOneRank) {
  for (const int64_t count : {1, 10, 37}) {
    const SharedDir dir;
    Trainer trainer(dir.options());
    const auto model =
        trainer.fit<Net>({}, DataLoader(samples(24), {.batch_size = 4}), DataLoader(samples(count), {.batch_size = 4}));
    const auto data = whole(count);
    const torch::NoGradGuard no_gradients;
    EXPECT_NEAR(trainer.callback_metrics().at("val_loss"), model->error(data).item<double>(), 1e-12) << count;
    EXPECT_EQ(trainer.callback_metrics().at("samples"), static_cast<double>(count));
    EXPECT_EQ(trainer.callback_metrics().at("largest"), data[1].max().item<double>());
  }
}

TEST(Ranks, HaveOneRunFolderAndOneBestCheckpoint) {
  const SharedDir dir;
  auto& processes = Processes::get();
  auto options = dir.options();
  options.quiet = false;
  options.enable_progress_bar = true;
  Trainer trainer(options);
  const DataLoader loader(samples(24), {.batch_size = 4});
  testing::internal::CaptureStderr();
  trainer.fit<Net>({}, loader, loader);
  const auto said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(said.find("best checkpoint: " + trainer.best_model_path().string()) != std::string::npos,
            processes.is_rank_zero())
      << said;
  for (const auto& path : {trainer.run_dir(), trainer.best_model_path()}) {
    EXPECT_FALSE(path.empty());
    for (const auto& other : processes.all_gather_bytes(path.string())) EXPECT_EQ(other, path.string());
  }
  EXPECT_FALSE(trainer.validate(loader).at(0).empty());
}

TEST(Ranks, AgreeOnALearningRate) {
  const SharedDir dir;
  Trainer trainer(dir.options());
  Tuner tuner(trainer);
  NetOptions net;
  const DataLoader loader(samples(48), {.batch_size = 4});
  const auto found = tuner.lr_find<Net>(net, loader, {.min_lr = 1e-5, .max_lr = 1000, .num_training = 60});
  EXPECT_TRUE(found.stopped_early);
  EXPECT_TRUE(is_same_everywhere(torch::tensor(found.loss, torch::kFloat64)));
  EXPECT_EQ(net.lr, *found.suggestion());
  EXPECT_THROW(tuner.scale_batch_size<Net>(net, loader), UsageError);
  EXPECT_THROW(tuner.measure_threads<Net>(net, loader), UsageError);
  EXPECT_THROW(tuner.measure_fetchers<Net>(net, loader), UsageError);
}

class StopsOnTheLast : public Net {
 public:
  using Net::Net;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    if (global_rank() == trainer().world_size() - 1 && batch_idx == 3) trainer().request_stop("enough");
  }
};

TEST(Ranks, AllStopWhenOneAsksP8) {
  const SharedDir dir;
  Trainer trainer(dir.options());
  const auto model = trainer.fit<StopsOnTheLast>({}, DataLoader(samples(400), {.batch_size = 4}));
  EXPECT_EQ(trainer.stop_reason(), "enough");
  EXPECT_LE(trainer.global_step(), 6);
  EXPECT_TRUE(is_same_everywhere(model->weights()));
}

// Each rank gets its signal at a moment of its own.
class Signalled : public Net {
 public:
  using Net::Net;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    if (global_rank() < 2 && batch_idx == 3 + 2 * global_rank()) std::raise(global_rank() == 0 ? SIGTERM : SIGINT);
  }
};

TEST(Ranks, EndWithACheckpointWhenSignalsComeAtDifferentMomentsP8) {
  const SharedDir dir;
  Trainer trainer(dir.options());
  const auto model = trainer.fit<Signalled>({}, DataLoader(samples(4000), {.batch_size = 4}));
  EXPECT_TRUE(trainer.was_interrupted());
  EXPECT_LT(trainer.global_step(), 100);
  EXPECT_TRUE(is_same_everywhere(model->weights()));
  if (!Processes::get().is_rank_zero()) return;
  const auto last = find_last(dir.options().default_root_dir);
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->checkpoint.metadata["progress"]["global_step"], trainer.global_step());
}

TEST(Ranks, EndTogetherWhenTheTimeIsOver) {
  const SharedDir dir;
  auto options = dir.options();
  options.max_time = "00:00:00:01";
  options.max_epochs = -1;
  Trainer trainer(options);
  const auto model = trainer.fit<Net>({}, DataLoader(samples(400), {.batch_size = 4}));
  EXPECT_EQ(trainer.stop_reason().substr(0, 8), "max_time");
  EXPECT_TRUE(is_same_everywhere(model->weights()));
  const auto steps = std::to_string(trainer.global_step());
  for (const auto& other : Processes::get().all_gather_bytes(steps)) EXPECT_EQ(other, steps);
}

class Prepares : public Net {
 public:
  using Net::Net;
  void prepare_data() override { ++times; }
  int64_t times = 0;
};

TEST(Ranks, PrepareDataOnceAHostAtMost) {
  for (const bool per_node : {false, true}) {
    const SharedDir dir;
    auto options = dir.options();
    options.prepare_data_per_node = per_node;
    const auto model = Trainer(options).fit<Prepares>({}, DataLoader(samples(12), {.batch_size = 2}));
    EXPECT_EQ(model->times, Processes::get().is_rank_zero() ? 1 : 0);  // all ranks are on this host
  }
}

// Fails on one rank, when others may have come to their end already.
struct FailsLate : Net {
  using Net::Net;
  void strike(const std::string& where) const {
    if (where == place && global_rank() == rank) throw 42;
  }
  void on_fit_end() override { strike("on_fit_end"); }
  void teardown(Stage) override { strike("teardown"); }
  void add_to_queue(ResultQueue&) override { strike("add_to_queue"); }
  static inline std::string place;
  static inline int64_t rank = 0;
};
struct EndsBadly : Monitor {
  Decision decide(Moment, const Progress&, const MetricMap&) override { return {}; }
  void run_ended() override {
    if (FailsLate::place == "EndsBadly::run_ended") throw 42;
  }
};

struct KeepsTheLastEnd : Sink {
  std::string name() const override { return "last end"; }
  void write(const Record& record) override {
    if (const auto* ended = std::get_if<StageEndedRecord>(&record)) last = *ended;
  }
  void flush() override {}
  StageEndedRecord last{.status = RunStatus::running};
};

// The others wait within MPI for a rank that has failed, which then cannot be finalized: mpirun calls that improper.
TEST(Faults, DISABLED_AtTheVeryEnd) {
  const SharedDir dir;
  auto options = dir.options();
  const auto sink = std::make_shared<KeepsTheLastEnd>();
  options.sinks = {sink};
  const bool is_rank_zero = Processes::get().rank() == 0;
  options.callbacks = {std::make_shared<EndsBadly>()};
  Trainer trainer(options);
  const DataLoader loader(samples(12), {.batch_size = 2});
  const int64_t last = Processes::get().size() - 1;
  using Late = std::pair<const char*, int64_t>;
  for (const auto& [place, rank] : {Late{"on_fit_end", last}, Late{"teardown", last}, Late{"add_to_queue", last},
                                    Late{"add_to_queue", 0}, Late{"EndsBadly::run_ended", 0}}) {
    FailsLate::place = place;
    FailsLate::rank = rank;
    const auto error = error_of([&] { trainer.fit<FailsLate>({}, loader); });
    const auto expected = std::string("an exception of type int, which is not a std::exception (in ") + place;
    EXPECT_EQ(error.substr(0, expected.size()), expected);
    EXPECT_NE(error.find("rank " + std::to_string(rank) + " on "), std::string::npos) << error;
    if (is_rank_zero) {
      EXPECT_EQ(sink->last.status, RunStatus::failed) << place;
      EXPECT_EQ(sink->last.message.substr(0, expected.size()), expected);
    }
    FailsLate::place = "";
    EXPECT_EQ(error_of([&] { trainer.fit<FailsLate>({}, loader); }), "") << place;
    if (is_rank_zero) EXPECT_EQ(sink->last.status, RunStatus::finished) << place;
  }
}

class LogsOnOne : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (global_rank() == 0) log("only_here", 1.0, {.on_step = false, .on_epoch = true});
    return Net::training_step(batch, batch_idx);
  }
};

TEST(Faults, DISABLED_Metrics) {
  const SharedDir dir;
  Trainer trainer(dir.options());
  trainer.fit<LogsOnOne>({}, DataLoader(samples(40), {.batch_size = 4}));
}

// What happens to rank 1 in batch 2 of epoch 1.
template <class Fault>
class Faulty : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (global_rank() == 1 && current_epoch() == 1 && batch_idx == 2) Fault()();
    return Net::training_step(batch, batch_idx);
  }
};

struct Throw {
  void operator()() const { throw std::runtime_error("out of luck"); }
};
template <int signal>
struct Raise {
  void operator()() const { std::raise(signal); }
};

template <class Module>
void fit_with(std::vector<std::shared_ptr<Callback>> callbacks = {}) {
  TrainerOptions options{.max_epochs = 3, .seed = 7, .callbacks = std::move(callbacks)};
  options.accelerator = Accelerator::cpu;
  options.precision = Precision::float64;
  options.enable_progress_bar = options.enable_model_summary = options.enable_checkpointing = options.logger = false;
  options.num_threads = 1;
  options.collective_timeout = 3;
  try {
    Trainer(options).fit<Module>({}, DataLoader(samples(48), {.batch_size = 4}));
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    std::_Exit(1);
  }
}

TEST(Faults, DISABLED_Exception) {
  fit_with<Faulty<Throw>>();
}
TEST(Faults, DISABLED_Killed) {
  fit_with<Faulty<Raise<SIGKILL>>>();
}
TEST(Faults, DISABLED_Stopped) {
  fit_with<Faulty<Raise<SIGSTOP>>>();
}

// Fails outside of all workers, on rank one.
class ThrowsANumber : public Monitor {
  Decision decide(Moment moment, const Progress& progress, const MetricMap&) override {
    if (Processes::get().rank() == 1 && moment == Moment::train_epoch_end && progress.epoch == 1) throw 42;
    return {};
  }
};
TEST(Faults, DISABLED_Number) {
  fit_with<Net>({std::make_shared<ThrowsANumber>()});
}

// --- Without a Trainer ---

torch::Tensor looped(const SharedDir& dir, Strategy strategy, bool captures) {
  const auto as = dir.options();
  FabricOptions options{
      .accelerator = as.accelerator, .strategy = strategy, .precision = as.precision, .seed = as.seed};
  options.collective_timeout = as.collective_timeout;
  options.num_threads = 1;
  options.capture_step = captures ? CaptureStep::require : CaptureStep::off;
  options.quiet = true;
  torch::Tensor weights;
  Fabric(options).launch([&](Fabric& fabric) {
    auto model = std::make_shared<Net>();
    const auto optimizer = fabric.setup(model, model->configure_optimizers());
    auto loader = fabric.setup_dataloaders(DataLoader(samples(48), {.batch_size = 12 / fabric.world_size()}));
    const auto step = fabric.capture([&](const Batch& batch) {
      optimizer.zero_grad();
      const auto loss = model->error(batch);
      fabric.backward(loss);
      optimizer.step();
      return loss;
    });
    for (int epoch = 0; epoch < 3; ++epoch) {
      for (const Batch& batch : loader) (void)step(batch);
    }
    EXPECT_EQ(step.captured().replays("step") > 0, captures);
    fabric.save(dir.path() / "loop.safetensors", {{"epoch", 3}});
    EXPECT_EQ(fabric.load(dir.path() / "loop.safetensors").at("epoch"), 3);
    EXPECT_TRUE(torch::equal(fabric.all_reduce(torch::ones({2}), Reduce::sum),
                             torch::full({2}, static_cast<float>(fabric.world_size()))));
    weights = model->weights().clone();
  });
  return weights;
}

TEST(Ranks, OfAFabricTrainToTheBitsOfTheTrainer) {
  const SharedDir dir;
  for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
    auto options = dir.options();
    options.strategy = strategy;
    options.enable_checkpointing = options.logger = false;
    const auto model =
        Trainer(options).fit<Net>({}, DataLoader(samples(48), {.batch_size = 12 / Processes::get().size()}));
    for (const bool captures : {false, true}) {
      const auto weights = looped(dir, strategy, captures);
      EXPECT_TRUE(is_same_everywhere(weights)) << name_of(strategy) << captures;
      EXPECT_EQ(bytes_of(weights), bytes_of(model->weights())) << name_of(strategy) << captures;
    }
  }
}

TEST(Faults, DISABLED_Fabric) {
  const bool is_zero = Processes::get().is_rank_zero();
  try {
    Fabric({.accelerator = Accelerator::cpu, .collective_timeout = 60}).launch([&](Fabric& fabric) {
      if (is_zero) throw UsageError("no more");
      for (;;) fabric.barrier();
    });
    ADD_FAILURE() << "no exception";
  } catch (const UsageError& error) {
    EXPECT_TRUE(is_zero);
    EXPECT_STREQ(error.what(), "no more");
  } catch (const RunError& error) {
    EXPECT_FALSE(is_zero);
    EXPECT_EQ(error.failure().message, "no more");
    EXPECT_EQ(error.failure().rank, 0);
  }
}

}  // namespace
}  // namespace troupe
