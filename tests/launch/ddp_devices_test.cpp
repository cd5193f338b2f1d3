// Several devices in one process: the same numbers as one device with the same global batch.
#include "tests/support/ddp.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <limits>
#include <mutex>
#include <thread>

namespace troupe {
namespace {

using ::testing::HasSubstr;

torch::Tensor trained_on_devices(int64_t devices, int64_t count, int64_t global_batch, TrainerOptions options,
                                 bool shuffle = true) {
  options.devices = devices;
  Trainer trainer(options);
  const DataLoader loader(samples(count), {.batch_size = global_batch / devices, .shuffle = shuffle});
  return trainer.fit<Net>({}, loader)->weights();
}

TEST(Devices, TrainToTheWeightsOfOneDeviceWithTheSameGlobalBatch) {
  const TempDir dir;
  const auto alone = trained_on_devices(1, 48, 12, exact(dir));
  for (const int64_t devices : {2, 3, 4}) {
    EXPECT_LE(largest_difference(trained_on_devices(devices, 48, 12, exact(dir)), alone), 1e-12) << devices;
  }
}

TEST(Devices, AccumulateAndClipAsOneDeviceDoes) {
  const TempDir dir;
  auto options = exact(dir);
  options.accumulate_grad_batches = 3;
  options.gradient_clip_val = 0.05;
  const auto alone = trained_on_devices(1, 64, 8, options);
  EXPECT_LE(largest_difference(trained_on_devices(2, 64, 8, options), alone), 1e-12);
}

struct WordOptions {
  bool sparse = true;
};
TROUPE_OPTIONS(WordOptions, (sparse, "whether the gradient has only the rows that were looked up"))

class WordVectors : public ModuleWith<WordOptions> {
 public:
  explicit WordVectors(WordOptions options) : ModuleWith(options) {
    words_ = register_module("words", torch::nn::Embedding(torch::nn::EmbeddingOptions(6, 2).sparse(options.sparse)));
    head_ = register_module("head", torch::nn::Linear(2, 1));
  }
  StepOutput training_step(const Batch& batch, int64_t) override { return head_(words_(batch[0])).square().mean(); }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 0.5); }
  torch::Tensor weights() const { return torch::cat({words_->weight.detach().flatten(), head_->weight.flatten()}); }

 private:
  torch::nn::Embedding words_{nullptr};
  torch::nn::Linear head_{nullptr};
};

TEST(Devices, TakeSparseGradientsAsDenseOnes) {
  const TempDir dir;
  const auto trained = [&](bool sparse, Strategy strategy, int64_t window, GradientCompression compression) {
    auto options = exact(dir, 2);
    options.strategy = strategy;
    options.accumulate_grad_batches = window;
    options.gradient_compression = compression;
    options.max_epochs = 1;
    const DataLoader words(std::make_shared<TensorDataset>(torch::tensor({0, 1, 4, 1, 2, 2, 5, 0})), {.batch_size = 2});
    return Trainer(options).fit<WordVectors>({.sparse = sparse}, words)->weights();
  };
  for (const auto strategy : {Strategy::ddp, Strategy::zero, Strategy::zero2, Strategy::fsdp}) {
    for (const int64_t window : {1, 2}) {
      for (const auto compression : {GradientCompression::none, GradientCompression::bf16}) {
        if (strategy != Strategy::ddp && compression != GradientCompression::none) continue;
        SCOPED_TRACE(name_of(strategy) + " " + std::to_string(window) + " " + name_of(compression));
        EXPECT_LE(largest_difference(trained(true, strategy, window, compression),
                                     trained(false, strategy, window, compression)),
                  1e-12);
      }
    }
  }
}

// Uses one branch or the other.
class Branching : public Net {
 public:
  explicit Branching(NetOptions options = {}) : Net(options) {
    other_ = register_module("other", torch::nn::Linear(4, 2));
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto out = batch_idx % 3 == 1 ? other_(batch[0]) : forward(batch[0]);
    return torch::mse_loss(out, batch[1]);
  }

 private:
  torch::nn::Linear other_{nullptr};
};

TEST(Devices, TrainAModelWhoseStepsUseOtherParametersFromOneToTheNext) {
  const TempDir dir;
  const auto weights = [&](int64_t devices) {
    auto options = exact(dir, devices);
    options.find_unused_parameters = true;
    return Trainer(options).fit<Branching>({}, DataLoader(samples(48), {.batch_size = 12 / devices}))->weights();
  };
  EXPECT_LE(largest_difference(weights(2), weights(1)), 1e-12);
}

// Compares the weights of all workers when the training ends.
class Compared : public Net {
 public:
  using Net::Net;
  void on_train_end() override {
    const auto all = all_gather(weights());
    if (trainer().world_size() > 1) {
      EXPECT_EQ(all.size(0), trainer().world_size());
      EXPECT_EQ((all - all[0]).abs().max().item<double>(), 0);
    }
    on_rank_zero = global_rank() == 0;
  }
  bool on_rank_zero = false;
};

TEST(Devices, HaveTheSameWeightsBitForBit) {
  for (const auto compression : {GradientCompression::none, GradientCompression::fp16, GradientCompression::bf16}) {
    const TempDir dir;
    auto options = exact(dir, 3);
    options.gradient_compression = compression;
    Trainer trainer(options);
    const auto model = trainer.fit<Compared>({}, DataLoader(samples(50), {.batch_size = 4, .shuffle = true}));
    EXPECT_TRUE(model->on_rank_zero);
    EXPECT_EQ(trainer.global_step(), 3 * 5);
  }
}

TEST(Devices, SmallBucketsAndALookForUnusedParametersChangeNothing) {
  const TempDir dir;
  const auto alone = trained_on_devices(1, 48, 12, exact(dir));
  auto options = exact(dir);
  options.first_bucket_mb = 1e-5;
  options.bucket_cap_mb = 1e-4;
  EXPECT_LE(largest_difference(trained_on_devices(2, 48, 12, options), alone), 1e-12);
  options.find_unused_parameters = true;
  EXPECT_LE(largest_difference(trained_on_devices(2, 48, 12, options), alone), 1e-12);
}

TEST(Devices, EvaluateToTheSameMetricsForEveryNumberOfThem) {
  for (const int64_t count : {1, 3, 10, 37}) {
    MetricMap alone;
    for (const int64_t devices : {1, 2, 3, 4}) {
      const TempDir dir;
      Trainer trainer(exact(dir, devices));
      trainer.fit<Net>({}, DataLoader(samples(24), {.batch_size = 24 / devices}),
                       DataLoader(samples(count), {.batch_size = 4}));
      const auto metrics = trainer.callback_metrics();
      if (devices == 1) alone = metrics;
      EXPECT_EQ(metrics.at("samples"), static_cast<double>(count));
      for (const char* name : {"val_loss", "largest", "train_loss"}) {
        EXPECT_NEAR(metrics.at(name), alone.at(name), 1e-12) << name << ' ' << devices << ' ' << count;
      }
    }
  }
}

TEST(Devices, PredictionsComeInTheOrderOfTheData) {
  torch::Tensor alone;
  for (const int64_t devices : {1, 2, 3}) {
    const TempDir dir;
    Trainer trainer(exact(dir, devices));
    trainer.fit<Net>({}, DataLoader(samples(24), {.batch_size = 24 / devices}));
    const auto outputs = trainer.predict(DataLoader(samples(22), {.batch_size = 4}));
    std::vector<torch::Tensor> rows;
    for (const auto& output : outputs) rows.push_back(output["y"]);
    const auto all = torch::cat(rows);
    if (devices == 1) alone = all;
    EXPECT_EQ(all.size(0), 22);
    EXPECT_LE(largest_difference(all, alone), 1e-12) << devices;
  }
}

torch::Tensor rows_in(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  return file.read(file.entries().at(0)).flatten();
}

class Echo : public Net {
 public:
  using Net::Net;
  StepOutput predict_step(const Batch& batch, int64_t) override { return batch[0]; }
};

TEST(Devices, PredictionsAreWrittenOnceEach) {
  for (const bool divides : {true, false}) {
    const TempDir dir;
    auto options = exact(dir, 2);
    options.use_distributed_sampler = divides;
    options.callbacks = {std::make_shared<PredictionWriter>(
        PredictionWriterOptions{.output_dir = dir / "out", .write_interval = WriteInterval::batch_and_epoch})};
    Trainer trainer(options);
    trainer.fit<Echo>({}, DataLoader(samples(8), {.batch_size = 4}));
    const auto x = torch::arange(8, torch::kFloat64);
    const auto outputs = trainer.predict(DataLoader(std::make_shared<TensorDataset>(x), {.batch_size = 1}));
    EXPECT_EQ(outputs.size(), divides ? 8u : 16u);
    const auto first = rows_in(dir / "out/predictions_0.safetensors");
    const auto second = rows_in(dir / "out/rank_1.predictions_0.safetensors");
    if (divides) {
      EXPECT_TRUE(torch::equal(first, x.slice(0, 0, 8, 2)));
      EXPECT_TRUE(torch::equal(second, x.slice(0, 1, 8, 2)));
    } else {
      EXPECT_TRUE(torch::equal(first, x) && torch::equal(second, x));
    }
    for (int64_t i = 0; i < 8; ++i) {
      const auto name = "batch_0_" + std::to_string(i) + ".safetensors";
      EXPECT_EQ(rows_in(dir / "out" / name).item<double>(), i);
      if (!divides) EXPECT_EQ(rows_in(dir / "out" / ("rank_1." + name)).item<double>(), i);
    }
  }
}

// Moments that lie around those between which ThroughputMonitor measures.
class Clocked : public Net {
 public:
  using Clock = std::chrono::steady_clock;
  using Net::Net;
  void on_epoch_start() override { before = Clock::now(); }       // before any callback's on_train_epoch_start
  void on_train_epoch_start() override { begun = Clock::now(); }  // after it
  StepOutput training_step(const Batch& batch, int64_t i) override {
    return last = Clock::now(), Net::training_step(batch, i);
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override { after = Clock::now(); }
  void on_validation_epoch_end() override { before = Clock::now(); }  // before any callback's on_validation_end
  void on_validation_end() override { begun = Clock::now(); }         // after it
  double longest() const { return std::chrono::duration<double>(after - before).count(); }
  double shortest() const { return std::chrono::duration<double>(last - begun).count(); }
  Clock::time_point before, begun, last, after;
};

TEST(Devices, TheThroughputIsThatOfAllOfThem) {
  for (const int64_t devices : {1, 2}) {
    const TempDir dir;
    auto options = exact(dir, devices);
    options.max_epochs = 1;
    options.log_every_n_steps = 1;
    options.callbacks = {std::make_shared<ThroughputMonitor>(10000)};
    Trainer trainer(options);
    const auto model = trainer.fit<Clocked>({}, DataLoader(samples(4000), {.batch_size = 2}));
    const double rate = trainer.callback_metrics().at("train/samples_per_sec");
    EXPECT_GE(rate * model->longest(), 4000 * 0.999) << devices;
    EXPECT_LE(rate * model->shortest(), 4000 * 1.001) << devices;
    EXPECT_NEAR(rate / trainer.callback_metrics().at("train/batches_per_sec"), 2, 1e-9);
  }
}

TEST(Devices, TheLearningRatesAreThoseOfTheFirst) {
  const TempDir dir;
  for (const auto interval : {LoggingInterval::automatic, LoggingInterval::step, LoggingInterval::epoch}) {
    auto options = exact(dir);
    options.devices = 2;
    options.log_every_n_steps = 1;
    options.callbacks = {
        std::make_shared<LearningRateMonitor>(LearningRateMonitorOptions{.logging_interval = interval})};
    Trainer trainer(options);
    trainer.fit<Net>({}, DataLoader(samples(12), {.batch_size = 2}));
    EXPECT_TRUE(std::ranges::any_of(trainer.callback_metrics(), [](const auto& metric) {
      return metric.first.starts_with("lr-");
    })) << static_cast<int>(interval);
  }
}

TEST(Devices, ValidationsAreNoPartOfTheThroughput) {
  const TempDir dir;
  auto options = exact(dir);
  options.max_epochs = 1;
  options.log_every_n_steps = 1;
  options.val_check_interval = 1500;  // of 2000 batches
  options.callbacks = {std::make_shared<ThroughputMonitor>(10000)};
  Trainer trainer(options);
  const auto model = trainer.fit<Clocked>({}, DataLoader(samples(4000), {.batch_size = 2}),
                                          DataLoader(samples(4000), {.batch_size = 2}));
  const double rate = trainer.callback_metrics().at("train/samples_per_sec");
  EXPECT_GE(rate * model->longest(), 1000 * 0.999);
  EXPECT_LE(rate * model->shortest(), 1000 * 1.001);
}

TEST(Devices, FunctionsAreCalledOnEachWhereTheySaySo) {
  for (const bool on_every_device : {false, true}) {
    const TempDir dir;
    auto options = exact(dir, 2);
    options.max_epochs = 1;
    std::atomic<int64_t> batches = 0;
    options.callbacks = {std::make_shared<LambdaCallback>(LambdaCallbackOptions{
        .on_train_batch_end = [&](RunContext&, Module&, const StepOutput&, const Batch&, int64_t) { batches += 1; },
        .on_every_device = on_every_device})};
    Trainer trainer(options);
    trainer.fit<Net>({}, DataLoader(samples(24), {.batch_size = 4}));
    EXPECT_EQ(batches, on_every_device ? 6 : 3);
  }
}

class FailsOnTheSecond : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (global_rank() == 1 && current_epoch() == 1 && batch_idx == 2) throw std::runtime_error("out of luck");
    return Net::training_step(batch, batch_idx);
  }
};

TEST(Devices, OneThatFailsEndsAllWithItsCauseP6) {
  const TempDir dir;
  Trainer trainer(exact(dir, 3));
  try {
    trainer.fit<FailsOnTheSecond>({}, DataLoader(samples(48), {.batch_size = 4}));
    FAIL() << "nothing was thrown";
  } catch (const RunError& error) {
    EXPECT_EQ(error.failure().rank, 1);
    EXPECT_EQ(error.failure().epoch, 1);
    EXPECT_EQ(error.failure().batch_idx, 2);
    EXPECT_EQ(error.failure().hook, "training_step");
    EXPECT_EQ(error.failure().message, "out of luck");
  }
}

class StopsOnTheSecond : public Compared {
 public:
  using Compared::Compared;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t batch_idx) override {
    if (global_rank() == 1 && batch_idx == 3) trainer().request_stop("enough");
  }
};

TEST(Devices, AllStopWhenOneAsksP8) {
  const TempDir dir;
  Trainer trainer(exact(dir, 3));
  trainer.fit<StopsOnTheSecond>({}, DataLoader(samples(300), {.batch_size = 4}));
  EXPECT_EQ(trainer.stop_reason(), "enough");
  EXPECT_GE(trainer.global_step(), 4);
  EXPECT_LE(trainer.global_step(), 6);  // votes are cast one batch ahead
}

class LargerOnTheSecond : public Net {
 public:
  explicit LargerOnTheSecond(NetOptions options) : Net(options) {}
  void setup(Stage) override {
    if (global_rank() == 1) register_parameter("extra", torch::zeros({5}));
  }
};

TEST(Devices, ModelsThatDifferAreNamed) {
  const TempDir dir;
  Trainer trainer(exact(dir, 2));
  const auto error = error_of([&] { trainer.fit<LargerOnTheSecond>({}, DataLoader(samples(8), {.batch_size = 4})); });
  EXPECT_THAT(error, HasSubstr("the ranks have different models"));
  EXPECT_THAT(error, HasSubstr("only rank 1: parameter extra [5]"));
}

TEST(Devices, NeedTheOptionsOfAModule) {
  const TempDir dir;
  Trainer trainer(exact(dir, 2));
  const auto error = error_of([&] { trainer.fit(std::make_shared<Net>(), DataLoader(samples(8), {.batch_size = 4})); });
  EXPECT_THAT(error, HasSubstr("trainer.devices = 2 needs a module for each device"));
}

struct ReducedByHand : Net {
  explicit ReducedByHand(NetOptions options) : Net(options) { automatic_optimization = false; }
};

TEST(Devices, CannotJoinWhatTheOthersDoByHand) {
  const TempDir dir;
  auto options = exact(dir, 2);
  options.uneven_data = UnevenData::join;
  Trainer trainer(options);
  const auto error = error_of([&] { trainer.fit<ReducedByHand>({}, DataLoader(samples(8), {.batch_size = 4})); });
  EXPECT_THAT(error, HasSubstr("trainer.uneven_data = join"));
  EXPECT_THAT(error, HasSubstr("automatic_optimization = false"));
}

// Numbers 0, 1, ... as samples; each shard has a length of its own.
class Uneven : public IterableDataset {
 public:
  explicit Uneven(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}
  void start(int64_t, int64_t shard, int64_t) override { left_ = lengths_.at(static_cast<std::size_t>(shard)); }
  std::optional<Batch> next() override {
    if (left_-- <= 0) return std::nullopt;
    const auto x = torch::full({4}, 0.01 * static_cast<double>(left_), torch::kFloat64);
    return Batch{x, x.slice(0, 0, 2)};
  }
  std::shared_ptr<IterableDataset> replicate() const override { return std::make_shared<Uneven>(lengths_); }

 private:
  std::vector<int64_t> lengths_;
  int64_t left_ = 0;
};

int64_t steps_with(UnevenData policy, std::vector<int64_t> lengths) {
  const TempDir dir;
  auto options = exact(dir, static_cast<int64_t>(lengths.size()));
  options.uneven_data = policy;
  options.max_epochs = 1;
  Trainer trainer(options);
  trainer.fit<Compared>({.lr = 0.01}, DataLoader(std::make_shared<Uneven>(std::move(lengths)), {.batch_size = 2}));
  return trainer.global_step();
}

TEST(Devices, OfUnequalDataNeverHang) {
  EXPECT_EQ(steps_with(UnevenData::stop, {2000, 2400, 1999}), 1000);
  EXPECT_EQ(steps_with(UnevenData::cycle, {2000, 600, 7}), 1000);
  EXPECT_EQ(steps_with(UnevenData::join, {2000, 600, 7}), 1000);
  EXPECT_EQ(steps_with(UnevenData::join, {0, 6}), 3);
  EXPECT_EQ(steps_with(UnevenData::stop, {0, 6}), 0);
}

// Says how many threads its worker computes with.
class Counted : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t index) override {
    threads = at::get_num_threads();
    return Net::training_step(batch, index);
  }
  int threads = 0;
};

// A run that may use so many of the processors that are there.
int threads_on(std::size_t processors, int64_t devices, int64_t num_threads = 0) {
  int threads = 0;
  std::thread([&] {
    cpu_set_t set;
    CPU_ZERO(&set);
    const auto allowed = allowed_cpus();
    for (std::size_t i = 0; i < processors; ++i) CPU_SET(allowed.at(i), &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
    torch::set_num_threads(static_cast<int>(allowed.size()));  // as LibTorch's default is in a process of its own
    const TempDir dir;
    auto options = exact(dir, devices);
    options.num_threads = num_threads;
    options.max_epochs = 1;
    threads = Trainer(options).fit<Counted>({}, DataLoader(samples(8), {.batch_size = 2}))->threads;
  }).join();
  return threads;
}

TEST(Devices, DivideTheProcessorsThatTheProcessMayUse) {
  const int all = static_cast<int>(allowed_cpus().size());
  EXPECT_EQ(threads_on(1, 1), 1);
  EXPECT_EQ(threads_on(1, 2), 1);
  EXPECT_EQ(threads_on(static_cast<std::size_t>(all), 1), all);
  EXPECT_EQ(threads_on(static_cast<std::size_t>(all), all), 1);
  EXPECT_EQ(threads_on(1, 1, 3), 3) << "as asked for";
}

TEST(Devices, OnTheCpuAreNoMoreThanCouldBeMeant) {
  for (const int64_t devices : {int64_t{100'000}, std::numeric_limits<int64_t>::max()}) {
    const TempDir dir;
    EXPECT_THAT(error_of([&] { Trainer(exact(dir, devices)).fit<Net>({}, DataLoader(samples(8), {.batch_size = 2})); }),
                HasSubstr("trainer.devices = " + std::to_string(devices) + " is too much for the CPU"));
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  }
}

TEST(Devices, GoOnFromACheckpointBitForBit) {
  const DataLoader loader(samples(40), {.batch_size = 4, .shuffle = true});
  const TempDir whole, cut;
  auto options = exact(whole, 2);
  options.max_epochs = 4;
  const auto expected = Trainer(options).fit<Net>({}, loader)->weights();

  auto first = exact(cut, 2);
  first.max_epochs = 2;
  Trainer(first).fit<Net>({}, loader);
  auto second = exact(cut, 2);
  second.max_epochs = 4;
  const auto resumed = Trainer(second).fit<Net>({}, loader, {}, {.ckpt_path = "last"})->weights();
  EXPECT_EQ(largest_difference(resumed, expected), 0);
}

}  // namespace
}  // namespace troupe
