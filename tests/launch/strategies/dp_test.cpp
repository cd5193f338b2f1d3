// The strategies dp and ddp2, on devices of one process: the numbers of one device.
#include "tests/launch/strategies/strategies.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>

namespace troupe {
namespace {

using ::testing::HasSubstr;

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
    Trainer trainer(options_with(dir, Strategy::dp, devices));
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
    auto options = options_with(dir, Strategy::dp, devices);
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
    Trainer trainer(options_with(dir, Strategy::dp, devices));
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
  Trainer trainer(options_with(dir, Strategy::dp, 2));
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
  Trainer trainer(options_with(dir, Strategy::dp, 3));
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
    Trainer trainer(options_with(dir, Strategy::dp, 2));
    const auto error = error_of([&] { trainer.fit<AnyPair>({true}, loader_of(8, 4)); });
    EXPECT_THAT(error, HasSubstr("which manual optimization cannot"));
  }
  auto options = options_with(dir, Strategy::dp, 2);
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
    return Trainer(options_with(dir, Strategy::dp, 3)).fit<Drops>({}, loader_of(48, 12))->weights();
  };
  EXPECT_EQ(largest_difference(fit(), fit()), 0);
}

}  // namespace
}  // namespace troupe
