// The strategies zero, dp and ddp2, and synchronised batch norm, on devices of one process: the numbers of one device.
#include "tests/launch/ddp.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

namespace troupe {
namespace {

using ::testing::HasSubstr;

DataLoader loader_of(int64_t count, int64_t batch_size, bool shuffle = true) {
  return DataLoader(samples(count), {.batch_size = batch_size, .shuffle = shuffle});
}

TrainerOptions with(const TempDir& dir, Strategy strategy, int64_t devices) {
  auto options = exact(dir, devices);
  options.strategy = strategy;
  return options;
}

// --- zero ---

struct AnyOptions {
  std::string optimizer = "adamw";
};
TROUPE_OPTIONS(AnyOptions, (optimizer, "its name"))

// A network with any optimizer; what it holds at the end.
class AnyNet : public ModuleWith<AnyOptions> {
 public:
  explicit AnyNet(AnyOptions options = {}) : ModuleWith(std::move(options)) {
    namespace nn = torch::nn;
    net_ = register_module("net", nn::Sequential(nn::Linear(4, 9), nn::Tanh(), nn::Linear(9, 2)));
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(net_->forward(batch[0]), batch[1]);
  }
  Optimizers configure_optimizers() override {
    const auto& name = options().optimizer;
    if (name == "sgd") return optim::sgd(parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 0.01});
    if (name == "adagrad") return optim::adagrad(parameters(), {.lr = 0.05});
    if (name == "rmsprop") return optim::rmsprop(parameters(), {.lr = 0.01, .momentum = 0.5});
    if (name == "torch_adam") return torch::optim::Adam(parameters(), torch::optim::AdamOptions(0.01));
    if (name == "lbfgs") return torch::optim::LBFGS(parameters(), torch::optim::LBFGSOptions(0.1));
    if (name == "groups") {
      return optim::adamw(std::vector<optim::AdamGroup>{{.params = net_->ptr(0)->parameters(), .lr = 0.01},
                                                        {.params = net_->ptr(2)->parameters(), .lr = 0.003}});
    }
    return optim::adamw(parameters(), {.lr = 0.01});
  }
  void on_train_end() override {
    elements = 0;
    for (const auto& group : trainer().optimizers()[0].param_groups()) {
      for (const auto& parameter : group.params()) elements += parameter.numel();
    }
    const auto all = all_gather(weights());
    if (trainer().world_size() > 1) {
      EXPECT_EQ((all - all[0]).abs().max().item<double>(), 0);
    }
  }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten());
    return torch::cat(flat);
  }
  int64_t elements = 0;  // of the optimizer's parameters on this rank

 private:
  torch::nn::Sequential net_{nullptr};
};

torch::Tensor trained(const char* optimizer, TrainerOptions options, int64_t global_batch = 12) {
  const auto loader = loader_of(48, global_batch / options.devices);
  return Trainer(options).fit<AnyNet>({.optimizer = optimizer}, loader)->weights();
}

TEST(Zero, TrainsToTheWeightsOfDdpWithEveryOptimizer) {
  for (const char* optimizer : {"sgd", "adamw", "adagrad", "rmsprop", "torch_adam", "groups"}) {
    const TempDir dir;
    const auto expected = trained(optimizer, with(dir, Strategy::ddp, 3));
    EXPECT_LE(largest_difference(trained(optimizer, with(dir, Strategy::zero, 3)), expected), 1e-12) << optimizer;
    EXPECT_LE(largest_difference(trained(optimizer, with(dir, Strategy::zero, 2)), expected), 1e-12) << optimizer;
    EXPECT_LE(largest_difference(trained(optimizer, with(dir, Strategy::zero, 1)), expected), 1e-12) << optimizer;
  }
}

TEST(Zero, ClipsAndAccumulatesAsDdpDoes) {
  for (const auto algorithm : {GradientClipAlgorithm::norm, GradientClipAlgorithm::value}) {
    const TempDir dir;
    auto options = with(dir, Strategy::ddp, 2);
    options.accumulate_grad_batches = 3;
    options.gradient_clip_val = 0.05;
    options.gradient_clip_algorithm = algorithm;
    const auto expected = trained("sgd", options, 8);
    options.strategy = Strategy::zero;
    EXPECT_LE(largest_difference(trained("sgd", options, 8), expected), 1e-12) << name_of(algorithm);
  }
}

TEST(Zero, SmallBucketsChangeNothing) {
  const TempDir dir;
  auto options = with(dir, Strategy::zero, 2);
  const auto expected = trained("adamw", options);
  options.first_bucket_mb = 1e-5;
  options.bucket_cap_mb = 1e-4;
  EXPECT_LE(largest_difference(trained("adamw", options), expected), 1e-12);
}

TEST(Zero, SendsCompressedGradients) {
  const TempDir dir;
  auto options = with(dir, Strategy::zero, 2);
  options.precision = Precision::float32;
  const auto data = [](int64_t count) {
    const auto whole = samples(count);
    std::vector<int64_t> indices(static_cast<std::size_t>(count));
    std::iota(indices.begin(), indices.end(), 0);
    const auto batch = *whole->get_batch(indices);
    return std::make_shared<TensorDataset>(batch[0].to(torch::kFloat32), batch[1].to(torch::kFloat32));
  };
  const DataLoader loader(data(48), {.batch_size = 6});
  const auto expected = Trainer(options).fit<AnyNet>({.optimizer = "sgd"}, loader)->weights();
  for (const auto compression : {GradientCompression::fp16, GradientCompression::bf16}) {
    options.gradient_compression = compression;
    const auto weights = Trainer(options).fit<AnyNet>({.optimizer = "sgd"}, loader)->weights();
    const double difference = largest_difference(weights, expected);
    EXPECT_GT(difference, 0) << name_of(compression);
    EXPECT_LE(difference, 0.02) << name_of(compression);
  }
}

TEST(Zero, DividesTheOptimizersMemory) {
  const TempDir dir;
  const auto loader = loader_of(48, 4);
  const auto whole = Trainer(with(dir, Strategy::ddp, 3)).fit<AnyNet>({}, loader)->elements;
  const auto part = Trainer(with(dir, Strategy::zero, 3)).fit<AnyNet>({}, loader)->elements;
  EXPECT_EQ(whole, 4 * 9 + 9 + 9 * 2 + 2);
  EXPECT_EQ(part, (whole + 2) / 3);
}

TEST(Zero, WritesOneCheckpointThatAnyNumberOfDevicesLoads) {
  const auto loader_for = [](int64_t devices) { return loader_of(48, 12 / devices); };
  const TempDir straight;
  auto options = with(straight, Strategy::ddp, 1);
  options.max_epochs = 4;
  const auto expected = Trainer(options).fit<AnyNet>({}, loader_for(1))->weights();
  const std::vector<std::pair<Strategy, int64_t>> ways = {
      {Strategy::zero, 1}, {Strategy::zero, 2}, {Strategy::zero, 3}, {Strategy::ddp, 2}};
  for (const auto& [first, devices] : ways) {
    for (const auto& [second, others] : ways) {
      const TempDir dir;
      auto before = with(dir, first, devices);
      before.max_epochs = 2;
      Trainer(before).fit<AnyNet>({}, loader_for(devices));
      auto after = with(dir, second, others);
      after.max_epochs = 4;
      const auto weights = Trainer(after).fit<AnyNet>({}, loader_for(others), {}, {.ckpt_path = "last"})->weights();
      EXPECT_LE(largest_difference(weights, expected), 1e-12)
          << name_of(first) << devices << ' ' << name_of(second) << others;
    }
  }
}

TEST(Zero, RefusesOptimizersThatLookAtAllElementsAtOnce) {
  const TempDir dir;
  Trainer trainer(with(dir, Strategy::zero, 2));
  const auto error = error_of([&] { trainer.fit<AnyNet>({.optimizer = "lbfgs"}, loader_of(8, 4)); });
  EXPECT_THAT(error, HasSubstr("strategy = zero divides parameters into parts"));
  EXPECT_THAT(error, HasSubstr("torch::optim::LBFGS"));
}

// Two optimizers that take turns at their parameters, automatic and by hand.
class Pair : public Module {
 public:
  explicit Pair(bool by_hand) {
    automatic_optimization = !by_hand;
    a_ = register_module("a", torch::nn::Linear(4, 3));
    b_ = register_module("b", torch::nn::Linear(3, 2));
  }
  torch::Tensor loss(const Batch& batch) { return torch::mse_loss(b_(torch::tanh(a_(batch[0]))), batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t, int64_t) override {
    if (automatic_optimization) return loss(batch);
    for (const std::size_t i : {0, 1}) {
      auto own = optimizer(i);
      own.zero_grad();
      manual_backward(loss(batch));
      own.step();
    }
    return {};
  }
  Optimizers configure_optimizers() override {
    return {optim::sgd(a_->parameters(), {.lr = 0.05, .momentum = 0.9}), optim::adamw(b_->parameters(), {.lr = 0.01})};
  }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten());
    return torch::cat(flat);
  }

 private:
  torch::nn::Linear a_{nullptr}, b_{nullptr};
};
struct SwitchOptions {
  bool by_hand = false;
};
TROUPE_OPTIONS(SwitchOptions, (by_hand, "manual optimization"))
struct AnyPair : Pair {
  using Options = SwitchOptions;
  explicit AnyPair(SwitchOptions options) : Pair(options.by_hand) {}
};

TEST(Zero, TakesSeveralOptimizers) {
  for (const bool by_hand : {false, true}) {
    const TempDir dir;
    const auto alone = Trainer(with(dir, Strategy::automatic, 1)).fit<AnyPair>({by_hand}, loader_of(48, 12))->weights();
    const auto zero = Trainer(with(dir, Strategy::zero, 2)).fit<AnyPair>({by_hand}, loader_of(48, 6))->weights();
    EXPECT_LE(largest_difference(zero, alone), 1e-12) << by_hand;
  }
}

// --- dp ---

class Parts : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t) override {
    {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      sizes.push_back(batch.size());
    }
    return {{"y", forward(batch[0])}, {"target", batch[1]}};
  }
  // A loss over the whole batch, which no part knows: the residuals against their mean.
  StepOutput training_step_end(const std::vector<StepOutput>& parts) override {
    std::vector<torch::Tensor> residuals;
    for (const auto& part : parts) residuals.push_back(part["y"] - part["target"]);
    const auto all = torch::cat(residuals);
    const auto loss = (all - all.mean(0, true)).square().mean() + all.square().mean();
    log("train_loss", loss, {.on_step = false, .on_epoch = true});
    return loss;
  }
  static inline std::mutex mutex;
  static inline std::set<std::thread::id> threads;
  static inline std::vector<int64_t> sizes;
};

TEST(Dp, BackpropagatesALossOverTheWholeBatchThroughAllDevices) {
  const auto fit = [](int64_t devices) {
    const TempDir dir;
    Parts::threads.clear();
    Parts::sizes.clear();
    Trainer trainer(with(dir, Strategy::dp, devices));
    const auto weights = trainer.fit<Parts>({}, loader_of(50, 12))->weights();
    return std::pair(weights, trainer.callback_metrics().at("train_loss"));
  };
  const auto alone = fit(1);
  EXPECT_EQ(Parts::threads.size(), 1);
  for (const int64_t devices : {2, 3, 4}) {
    const auto [weights, loss] = fit(devices);
    EXPECT_EQ(Parts::threads.size(), static_cast<std::size_t>(devices));
    EXPECT_LE(*std::ranges::max_element(Parts::sizes), (12 + devices - 1) / devices);
    EXPECT_LE(largest_difference(weights, alone.first), 1e-12) << devices;
    EXPECT_NEAR(loss, alone.second, 1e-12);
  }
}

TEST(Dp, WithoutTrainingStepEndIsOneDevice) {
  const auto fit = [](int64_t devices) {
    const TempDir dir;
    auto options = with(dir, Strategy::dp, devices);
    options.accumulate_grad_batches = 2;
    options.gradient_clip_val = 0.5;
    Trainer trainer(options);
    const auto weights = trainer.fit<Net>({}, loader_of(50, 11), loader_of(23, 7, false))->weights();
    const auto outputs = trainer.predict(loader_of(23, 7, false));
    std::vector<torch::Tensor> rows;
    for (const auto& output : outputs) rows.push_back(output["y"]);
    return std::tuple(weights, trainer.callback_metrics(), torch::cat(rows), trainer.global_step());
  };
  const auto [weights, metrics, predictions, steps] = fit(1);
  for (const int64_t devices : {2, 4}) {
    const auto [others, other_metrics, other_predictions, other_steps] = fit(devices);
    EXPECT_EQ(other_steps, steps);
    EXPECT_LE(largest_difference(others, weights), 1e-12);
    EXPECT_LE(largest_difference(other_predictions, predictions), 1e-12);
    for (const auto& [name, value] : metrics) EXPECT_NEAR(other_metrics.at(name), value, 1e-12) << name;
  }
}

class Counts : public Net {
 public:
  explicit Counts(NetOptions options) : Net(options) { error_ = register_metric("error", metrics::MeanSquaredError()); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto y = forward(batch[0]);
    error_.update(y.detach(), batch[1]);
    log("error", error_, {.on_step = false, .on_epoch = true});
    log("largest", batch[1].max(), {.on_step = false, .on_epoch = true, .reduce_fx = Reduce::max});
    log("samples", static_cast<double>(batch.size()), {.on_step = false, .on_epoch = true, .reduce_fx = Reduce::sum});
    return torch::mse_loss(y, batch[1]);
  }
  MetricHolder<metrics::MeanSquaredError> error_;
};

TEST(Dp, MetricsAreThoseOfTheWholeBatch) {
  const auto fit = [](int64_t devices) {
    const TempDir dir;
    Trainer trainer(with(dir, Strategy::dp, devices));
    trainer.fit<Counts>({}, loader_of(50, 12));
    return trainer.callback_metrics();
  };
  const auto alone = fit(1), three = fit(3);
  EXPECT_EQ(three.at("samples"), 50);
  for (const char* name : {"error", "largest", "samples"}) EXPECT_NEAR(three.at(name), alone.at(name), 1e-12) << name;
}

class LogsTheStepsMetric : public Counts {
 public:
  using Counts::Counts;
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto y = forward(batch[0]);
    error_(y, batch[1]);
    log("error", error_);
    return torch::mse_loss(y, batch[1]);
  }
};

TEST(Dp, RefusesTheStepValueOfAMetricThatSawAPart) {
  const TempDir dir;
  Trainer trainer(with(dir, Strategy::dp, 2));
  const auto error = error_of([&] { trainer.fit<LogsTheStepsMetric>({}, loader_of(50, 12)); });
  EXPECT_THAT(error, HasSubstr("of which each device has seen a part"));
}

class FailsInThePart : public Net {
 public:
  using Net::Net;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (batch_idx == 1 && batch[0][0][0].item<double>() != first_) throw std::runtime_error("out of luck");
    if (batch_idx == 0) first_ = batch[0][0][0].item<double>();
    return Net::training_step(batch, batch_idx);
  }
  double first_ = 0;
};

TEST(Dp, APartThatFailsEndsTheRunP6) {
  const TempDir dir;
  Trainer trainer(with(dir, Strategy::dp, 3));
  try {
    trainer.fit<FailsInThePart>({}, loader_of(48, 12));
    FAIL() << "nothing was thrown";
  } catch (const RunError& error) {
    EXPECT_EQ(error.failure().message, "out of luck");
    EXPECT_EQ(error.failure().hook, "training_step");
    EXPECT_EQ(error.failure().batch_idx, 1);
  }
}

TEST(Dp, RefusesWhatCannotBeDivided) {
  const TempDir dir;
  {
    Trainer trainer(with(dir, Strategy::dp, 2));
    const auto error = error_of([&] { trainer.fit<AnyPair>({true}, loader_of(8, 4)); });
    EXPECT_THAT(error, HasSubstr("which manual optimization cannot"));
  }
  auto options = with(dir, Strategy::dp, 2);
  options.sync_batchnorm = true;
  EXPECT_THAT(error_of([&] { Trainer trainer(options); }), HasSubstr("trainer.sync_batchnorm = true"));
}

TEST(Dp, DrawsTheSameNumbersEachTime) {
  struct Drops : Net {
    using Net::Net;
    StepOutput training_step(const Batch& batch, int64_t) override {
      return torch::mse_loss(forward(torch::dropout(batch[0], 0.3, true)), batch[1]);
    }
  };
  const auto fit = [] {
    const TempDir dir;
    return Trainer(with(dir, Strategy::dp, 3)).fit<Drops>({}, loader_of(48, 12))->weights();
  };
  EXPECT_EQ(largest_difference(fit(), fit()), 0);
}

// --- Synchronised batch norm ---

class Normed : public Net {
 public:
  explicit Normed(NetOptions options) : Net(options) {
    first_ = register_module("first", torch::nn::Linear(4, 6));
    norm_ = register_module("norm", torch::nn::BatchNorm1d(6));
    last_ = register_module("last", torch::nn::Linear(6, 2));
  }
  torch::Tensor forward(torch::Tensor x) override { return last_(torch::relu(norm_(first_(x)))) + net_->forward(x); }
  torch::Tensor running() const { return torch::cat({norm_->running_mean, norm_->running_var}); }

 private:
  torch::nn::Linear first_{nullptr}, last_{nullptr};
  torch::nn::BatchNorm1d norm_{nullptr};
};

TEST(SyncBatchNorm, IsThatOfTheGlobalBatch) {
  const auto fit = [](int64_t devices, bool synced, Strategy strategy) {
    const TempDir dir;
    auto options = with(dir, strategy, devices);
    options.sync_batchnorm = synced;
    // 50 samples: the last batches of the ranks are short.
    const auto model = Trainer(options).fit<Normed>({}, loader_of(48, 12 / devices));
    return std::pair(model->weights(), model->running());
  };
  const auto alone = fit(1, true, Strategy::ddp);
  for (const int64_t devices : {2, 3}) {
    for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
      const auto synced = fit(devices, true, strategy);
      EXPECT_LE(largest_difference(synced.first, alone.first), 1e-10) << devices << name_of(strategy);
      EXPECT_LE(largest_difference(synced.second, alone.second), 1e-10) << devices << name_of(strategy);
    }
    EXPECT_GT(largest_difference(fit(devices, false, Strategy::ddp).first, alone.first), 1e-4) << devices;
  }
}

class InstanceNormed : public Net {
 public:
  explicit InstanceNormed(NetOptions options) : Net(options) {
    norm_ = register_module("norm", torch::nn::InstanceNorm1d(torch::nn::InstanceNorm1dOptions(2).affine(true)));
  }
  torch::Tensor forward(torch::Tensor x) override { return net_->forward(norm_(x.view({-1, 2, 2})).view({-1, 4})); }

 private:
  torch::nn::InstanceNorm1d norm_{nullptr};
};

TEST(SyncBatchNorm, LeavesInstanceNormAlone) {
  const auto fit = [](int64_t devices) {
    const TempDir dir;
    auto options = with(dir, Strategy::ddp, devices);
    options.sync_batchnorm = true;
    return Trainer(options).fit<InstanceNormed>({}, loader_of(48, 12 / devices))->weights();
  };
  EXPECT_LE(largest_difference(fit(2), fit(1)), 1e-10);
}

TEST(SyncBatchNorm, CannotWaitForRanksWithoutABatch) {
  const TempDir dir;
  auto options = with(dir, Strategy::ddp, 2);
  options.sync_batchnorm = true;
  options.uneven_data = UnevenData::join;
  EXPECT_THAT(error_of([&] { Trainer trainer(options); }), HasSubstr("a rank without a batch cannot take part in it"));
}

}  // namespace
}  // namespace troupe
