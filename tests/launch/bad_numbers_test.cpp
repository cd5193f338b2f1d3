// Losses and gradients that are not finite, and losses that jump: stop, skip, continue; on one device and on two.
#include "tests/support/ddp.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace troupe {
namespace {

using ::testing::HasSubstr;

struct BadOptions {
  int64_t rank = 0;   // whose loss is bad
  int64_t first = 3;  // batches, counted over the run
  int64_t last = 4;
  double factor = 0;      // what the loss is multiplied with; 0 is nan
  bool gradient = false;  // the loss is fine, the gradient of one bias is not
};
TROUPE_OPTIONS(BadOptions, (rank, ""), (first, ""), (last, ""), (factor, ""), (gradient, ""))

class Bad : public Net {
 public:
  using Options = BadOptions;
  explicit Bad(BadOptions bad) : bad_(bad) {}
  StepOutput training_step(const Batch& batch, int64_t) override {
    const int64_t now = seen_++;
    auto loss = error(batch);
    if (global_rank() != bad_.rank || now < bad_.first || now > bad_.last) return loss;
    if (!bad_.gradient) return loss * (bad_.factor == 0 ? NAN : bad_.factor);
    auto bias = net_->ptr(2)->parameters()[1];
    return loss + torch::sqrt((bias - bias.detach()).square().sum());  // 0, and a gradient of 0 / 0
  }
  void on_train_end() override { steps = global_step(); }
  int64_t steps = 0;

 private:
  BadOptions bad_;
  int64_t seen_ = 0;
};

DataLoader data() {
  return DataLoader(samples(160), {.batch_size = 4});
}

TrainerOptions options_for(const TempDir& dir, NonFinite nonfinite, int64_t devices = 1) {
  auto options = exact(dir, devices);
  options.nonfinite = nonfinite;
  options.max_epochs = 1;
  return options;
}

TEST(BadNumbers, SkippedStepsLeaveTheWeightsFinite) {
  for (const int64_t devices : {1, 2}) {
    for (const bool gradient : {false, true}) {
      const TempDir dir;
      Trainer trainer(options_for(dir, NonFinite::skip, devices));
      const auto model = trainer.fit<Bad>({.rank = devices - 1, .gradient = gradient}, data());
      EXPECT_TRUE(torch::isfinite(model->weights()).all().item<bool>());
      EXPECT_EQ(trainer.global_step(), 40 / devices - 2);
    }
  }
}

class Words : public Module {
 public:
  explicit Words(double factor) : factor_(factor) {
    words_ = register_module("words", torch::nn::Embedding(torch::nn::EmbeddingOptions(4, 1).sparse(true)));
    torch::NoGradGuard no_gradients;
    words_->weight.zero_();
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return (words_(batch[0]) * factor_ * factor_).sum();
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 1.0); }
  torch::Tensor weights() const { return words_->weight.detach().flatten(); }

 private:
  double factor_;
  torch::nn::Embedding words_{nullptr};
};

TEST(BadNumbers, SparseGradientsAreJudgedAndClipped) {
  // Row 0 twice, row 1 once: a gradient of 2, 1, 0, 0.
  const DataLoader indices(std::make_shared<TensorDataset>(torch::tensor({0, 1, 0})), {.batch_size = 3});
  for (const auto precision : {Precision::float32, Precision::float16_mixed}) {
    const TempDir dir;
    auto options = options_for(dir, NonFinite::skip);
    options.precision = precision;
    options.gradient_clip_val = 1;
    const auto by_norm = std::make_shared<Words>(1);
    Trainer(options).fit(by_norm, indices);
    const double norm = std::sqrt(5.0);
    EXPECT_TRUE(torch::allclose(by_norm->weights(), torch::tensor({-2 / norm, -1 / norm, 0.0, 0.0})))
        << name_of(precision);
    options.gradient_clip_val = 1.5;
    options.gradient_clip_algorithm = GradientClipAlgorithm::value;
    const auto by_value = std::make_shared<Words>(1);
    Trainer(options).fit(by_value, indices);
    EXPECT_TRUE(torch::allclose(by_value->weights(), torch::tensor({-1.5, -1.0, 0.0, 0.0}))) << name_of(precision);
    const auto infinite = std::make_shared<Words>(1e30);
    Trainer(options).fit(infinite, indices);
    EXPECT_TRUE(infinite->weights().equal(torch::zeros({4}))) << name_of(precision);
  }
  const TempDir dir;
  auto options = options_for(dir, NonFinite::stop);
  options.precision = Precision::float32;
  EXPECT_THAT(error_of([&] { Trainer(options).fit(std::make_shared<Words>(1e30), indices); }),
              HasSubstr("the gradient of words.weight is not finite"));
}

TEST(BadNumbers, ContinueIsTheDefaultAndLosesTheWeights) {
  const TempDir dir;
  EXPECT_EQ(TrainerOptions().nonfinite, NonFinite::proceed);
  const auto model = Trainer(options_for(dir, NonFinite::proceed)).fit<Bad>({}, data());
  EXPECT_FALSE(torch::isfinite(model->weights()).all().item<bool>());
}

TEST(BadNumbers, StopNamesTheRankAndTheParameterBeforeTheStep) {
  for (const int64_t devices : {1, 3}) {
    const TempDir dir;
    try {
      Trainer(options_for(dir, NonFinite::stop, devices)).fit<Bad>({.rank = devices - 1}, data());
      FAIL() << "nothing was thrown";
    } catch (const RunError& error) {
      EXPECT_THAT(error.failure().message, HasSubstr("the loss is nan (trainer.nonfinite = stop)"));
      EXPECT_EQ(error.failure().rank, devices - 1);
      EXPECT_EQ(error.failure().batch_idx, 3);
      EXPECT_EQ(error.failure().epoch, 0);
    }
  }
  const TempDir dir;
  EXPECT_THAT(error_of([&] { Trainer(options_for(dir, NonFinite::stop)).fit<Bad>({.gradient = true}, data()); }),
              HasSubstr("the gradient of net.2.bias is not finite"));
}

TEST(BadNumbers, TooManySkippedStepsInARowEndTheRun) {
  const TempDir dir;
  auto options = options_for(dir, NonFinite::skip, 2);
  options.max_skipped_steps = 4;
  EXPECT_THAT(error_of([&] { Trainer(options).fit<Bad>({.rank = 1, .first = 3, .last = 20}, data()); }),
              HasSubstr("4 steps before it were left out"));
  EXPECT_EQ(Trainer(options).fit<Bad>({.rank = 1, .first = 3, .last = 6}, data())->steps, 20 - 4);
}

TEST(BadNumbers, ALossThatJumpsCountsAsBad) {
  const TempDir dir;
  auto options = options_for(dir, NonFinite::skip, 1);
  options.loss_spike_zscore = 20;
  const BadOptions jumps{.first = 30, .last = 31, .factor = 1e6};
  EXPECT_EQ(Trainer(options).fit<Bad>(jumps, data())->steps, 38);
  options.nonfinite = NonFinite::stop;
  EXPECT_THAT(error_of([&] { Trainer(options).fit<Bad>(jumps, data()); }), HasSubstr("standard deviations above"));
  options.nonfinite = NonFinite::proceed;
  EXPECT_EQ(Trainer(options).fit<Bad>(jumps, data())->steps, 40);
}

TEST(BadNumbers, AWindowWithABadBatchIsLeftOut) {
  const TempDir dir;
  auto options = options_for(dir, NonFinite::skip);
  options.accumulate_grad_batches = 4;
  const auto model = Trainer(options).fit<Bad>({}, data());
  EXPECT_EQ(model->steps, 8);  // batches 3 and 4 lie in two windows
  EXPECT_TRUE(torch::isfinite(model->weights()).all().item<bool>());
}

}  // namespace
}  // namespace troupe
