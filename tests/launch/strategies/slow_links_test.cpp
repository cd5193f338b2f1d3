// Runs that send little, on devices of one process: gradients compressed by PowerSGD, and the strategies local_sgd and
// diloco.
#include "tests/launch/strategies/strategies.hpp"
#include "tests/support/same_bits.hpp"
#include "troupe/runtime/checkpoint/checkpoint_finder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace troupe {
namespace {

using ::testing::HasSubstr;

constexpr int64_t units = 40;  // so that the first layer's gradient is compressed

// The ways in which a run sends little.
struct Way {
  const char* name;
  std::function<void(TrainerOptions&)> set;
};
const std::vector<Way>& ways() {
  static const std::vector<Way> all = {{"powersgd",
                                        [](TrainerOptions& options) {
                                          options.gradient_compression = GradientCompression::powersgd;
                                          options.powersgd_start_step = 3;
                                        }},
                                       {"powersgd without a warm start",
                                        [](TrainerOptions& options) {
                                          options.gradient_compression = GradientCompression::powersgd;
                                          options.powersgd_start_step = 0;
                                          options.powersgd_warm_start = false;
                                        }},
                                       {"local_sgd",
                                        [](TrainerOptions& options) {
                                          options.strategy = Strategy::local_sgd;
                                          options.local_steps = 3;
                                        }},
                                       {"diloco", [](TrainerOptions& options) {
                                          options.strategy = Strategy::diloco;
                                          options.local_steps = 5;
                                        }}};
  return all;
}

TrainerOptions sending_little(const TempDir& dir, const Way& way, int64_t devices = 2) {
  auto options = exact(dir, devices);
  way.set(options);
  return options;
}

// What all ranks have in a hook.
bool is_alike(Module& module, const torch::Tensor& tensor) {
  const auto all = module.all_gather(tensor);
  for (int64_t rank = 1; rank < all.size(0); ++rank) {
    if (!has_same_bits(all[rank], all[0])) return false;
  }
  return true;
}

class AlikeAtTheEnd : public Net {
 public:
  using Net::Net;
  void on_train_end() override { EXPECT_TRUE(is_alike(*this, weights())); }
};

// Looks at the weights of all ranks after each batch and in validations too.
class WatchedExchange : public AlikeAtTheEnd {
 public:
  using AlikeAtTheEnd::AlikeAtTheEnd;
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    alike_after.push_back(is_alike(*this, weights()));
  }
  void on_validation_epoch_end() override {
    EXPECT_TRUE(is_alike(*this, weights()));
    validated.push_back(weights());
  }
  std::vector<bool> alike_after;
  std::vector<torch::Tensor> validated;
};

TEST(SlowLinks, RanksHaveTheSameBitsAfterEveryExchange) {
  for (const int64_t devices : {2, 3}) {
    for (const auto& way : ways()) {
      const TempDir dir;
      auto options = sending_little(dir, way, devices);
      options.max_epochs = 2;
      const bool is_local = trains_locally(options.strategy);
      const int64_t every = is_local ? options.local_steps : 1;
      const auto model =
          Trainer(options).fit<WatchedExchange>({.hidden = units}, loader_of(7 * 4 * devices, 4), loader_of(8, 4));
      ASSERT_EQ(model->alike_after.size(), 14u);
      for (std::size_t i = 0; i < 14; ++i) {
        EXPECT_EQ(model->alike_after[i], (static_cast<int64_t>(i) + 1) % every == 0) << way.name << devices << i;
      }
    }
  }
}

torch::Tensor weights_of(const TrainerOptions& options, int64_t count = 48) {
  return Trainer(options).fit<Net>({.hidden = units}, loader_of(count, 12 / options.devices))->weights();
}

TEST(SlowLinks, PowerSgdIsDdpUntilItBegins) {
  const TempDir dir;
  auto options = exact(dir, 2);
  const auto plain = weights_of(options);
  options.gradient_compression = GradientCompression::powersgd;
  EXPECT_TRUE(has_same_bits(weights_of(options), plain));
  options.powersgd_start_step = 10;  // of 12
  const auto compressed = weights_of(options);
  EXPECT_GT(largest_difference(compressed, plain), 1e-6);
  EXPECT_LE(largest_difference(compressed, plain), 0.05);
}

TEST(SlowLinks, AnExchangeAfterEveryStepIsDdpWithSgd) {
  const TempDir dir;
  for (const int64_t window : {1, 2}) {
    auto options = exact(dir, 2);
    options.accumulate_grad_batches = window;
    const auto plain = weights_of(options);
    options.strategy = Strategy::local_sgd;
    options.local_steps = 1;
    EXPECT_LE(largest_difference(weights_of(options), plain), 1e-12);
    options.strategy = Strategy::diloco;
    options.outer_lr = 1;
    options.outer_momentum = 0;
    EXPECT_LE(largest_difference(weights_of(options), plain), 1e-12);
    options.outer_momentum = 0.5;
    EXPECT_GT(largest_difference(weights_of(options), plain), 1e-4);
  }
}

// Two optimizers, both with states; dropout, so that random numbers count too.
class Any : public Module {
 public:
  using Options = SwitchOptions;
  explicit Any(SwitchOptions options) {
    automatic_optimization = !options.by_hand;
    a_ = register_module("a", torch::nn::Linear(4, units));
    norm_ = register_module("norm", torch::nn::BatchNorm1d(units));
    b_ = register_module("b", torch::nn::Linear(units, 2));
  }
  torch::Tensor loss(const Batch& batch) {
    return torch::mse_loss(b_(torch::dropout(norm_(torch::tanh(a_(batch[0]))), 0.2, is_training())), batch[1]);
  }
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
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", loss(batch));
    return {};
  }
  Optimizers configure_optimizers() override {
    auto first = a_->parameters(), second = b_->parameters();
    for (const auto& each : norm_->parameters()) first.push_back(each);
    return {optim::sgd(first, {.lr = 0.05, .momentum = 0.9}), optim::adamw(second, {.lr = 0.01})};
  }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten());
    for (const auto& buffer : buffers()) flat.push_back(buffer.to(torch::kFloat64).flatten());
    return torch::cat(flat);
  }

 private:
  torch::nn::Linear a_{nullptr}, b_{nullptr};
  torch::nn::BatchNorm1d norm_{nullptr};
};

// 7 batches an epoch: what is saved lies between exchanges, in windows and after validations.
TEST(SlowLinks, AResumedRunHasTheSameBits) {
  for (const auto& way : ways()) {
    for (const bool by_hand : {false, true}) {
      for (const int64_t window : {1, 2}) {
        if (by_hand && window > 1) continue;
        const auto train = [&](const TempDir& dir, int64_t batches, bool resumes) {
          auto options = sending_little(dir, way);
          options.accumulate_grad_batches = window;
          options.max_epochs = -1;
          options.max_steps = 2 * batches;  // two optimizers
          RunArguments how;
          if (resumes) how.ckpt_path = "last";
          return Trainer(options).fit<Any>({by_hand}, loader_of(56, 4), loader_of(10, 4), how)->weights();
        };
        const TempDir straight;
        const auto expected = train(straight, 11, false);
        for (const int64_t cut : {4, 6}) {
          const TempDir dir;
          train(dir, cut, false);
          EXPECT_TRUE(has_same_bits(train(dir, 11, true), expected)) << way.name << by_hand << window << cut;
        }
      }
    }
  }
}

TEST(SlowLinks, AnotherNumberOfRanksGoesOn) {
  for (const auto& way : ways()) {
    const TempDir dir;
    for (const auto& [devices, steps] : {std::pair{3, 8}, std::pair{2, 12}, std::pair{4, 20}, std::pair{1, 24}}) {
      auto options = sending_little(dir, way, devices);
      options.max_epochs = -1;
      options.max_steps = steps;
      Trainer trainer(options);
      RunArguments how;
      if (steps > 8) how.ckpt_path = "last";
      const auto model = trainer.fit<Net>({.hidden = units}, loader_of(48, 12 / devices), {}, how);
      EXPECT_EQ(trainer.global_step(), steps) << way.name;
      EXPECT_TRUE(std::isfinite(model->weights().sum().item<double>())) << way.name;
    }
  }
}

TEST(SlowLinks, ACheckpointOfOneWayIsTakenByAnother) {
  for (const auto& first : ways()) {
    for (const auto& second : ways()) {
      const TempDir dir;
      auto options = sending_little(dir, first);
      options.max_epochs = 1;
      weights_of(options);
      options = sending_little(dir, second);
      Trainer trainer(options);
      trainer.fit<Net>({.hidden = units}, loader_of(48, 6), {}, {.ckpt_path = "last"});
      EXPECT_EQ(trainer.global_step(), 12) << first.name << second.name;
    }
  }
}

// Between two exchanges validations and checkpoints see the mean of all ranks' weights, and the training does not
// depend on them.
TEST(SlowLinks, ValidationsAndCheckpointsSeeTheMean) {
  const TempDir dir, other;
  auto options = exact(dir, 2);
  options.strategy = Strategy::diloco;
  options.local_steps = 100;
  options.max_epochs = 3;
  const auto model = Trainer(options).fit<WatchedExchange>({.hidden = units}, loader_of(48, 6), loader_of(10, 4));
  ASSERT_EQ(model->validated.size(), 4u);  // the sanity check too
  EXPECT_GT(largest_difference(model->validated[1], model->validated[0]), 1e-4);
  EXPECT_TRUE(has_same_bits(model->weights(), model->validated[3]));
  const auto saved = find_last(dir.path())->checkpoint;
  std::vector<torch::Tensor> flat, own;
  for (const auto& item : model->named_parameters()) {
    flat.push_back(saved.find("model." + item.key())->flatten());
    own.push_back((*saved.find("local." + item.key()) + *saved.find("rank_1.local." + item.key())).flatten() / 2);
  }
  EXPECT_TRUE(has_same_bits(torch::cat(flat), model->weights()));
  EXPECT_LE(largest_difference(torch::cat(own), model->weights()), 1e-15);
  options.default_root_dir = other.path();
  options.limit_val_batches = 0;
  options.enable_checkpointing = false;
  EXPECT_TRUE(has_same_bits(weights_of(options), model->weights()));
}

TEST(SlowLinks, StepsAreCapturedToTheSameBits) {
  for (const auto& way : ways()) {
    const TempDir dir;
    auto options = sending_little(dir, way);
    const auto plain = weights_of(options);
    options.capture_step = CaptureStep::require;
    EXPECT_TRUE(has_same_bits(weights_of(options), plain)) << way.name;
  }
}

// A rank without batches steps all the same.
class Lengths : public IterableDataset {
 public:
  explicit Lengths(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}
  void start(int64_t, int64_t shard, int64_t) override { left_ = lengths_.at(static_cast<std::size_t>(shard)); }
  std::optional<Batch> next() override {
    if (left_-- <= 0) return std::nullopt;
    const auto x = torch::full({4}, 0.01 * static_cast<double>(left_), torch::kFloat64);
    return Batch{x, x.slice(0, 0, 2)};
  }
  std::shared_ptr<IterableDataset> replicate() const override { return std::make_shared<Lengths>(lengths_); }

 private:
  std::vector<int64_t> lengths_;
  int64_t left_ = 0;
};

TEST(SlowLinks, UnequalDataNeverHang) {
  for (const auto& way : ways()) {
    const TempDir dir;
    auto options = sending_little(dir, way, 3);
    options.uneven_data = UnevenData::join;
    options.max_epochs = 1;
    Trainer trainer(options);
    const auto data = std::make_shared<Lengths>(std::vector<int64_t>{40, 12, 3});
    trainer.fit<AlikeAtTheEnd>({.hidden = units}, DataLoader(data, {.batch_size = 2}));
    EXPECT_EQ(trainer.global_step(), 20) << way.name;
  }
}

TEST(SlowLinks, OneRankIsWarned) {
  for (const auto& [way, said] : {std::pair{ways()[0], "trainer.gradient_compression = powersgd does nothing"},
                                  std::pair{ways()[3], "trainer.strategy = diloco does nothing on one rank"}}) {
    const TempDir dir;
    const auto plain = weights_of(exact(dir, 1));
    testing::internal::CaptureStderr();
    EXPECT_TRUE(has_same_bits(weights_of(sending_little(dir, way, 1)), plain));
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(said));
  }
}

TEST(SlowLinks, WeightAveragingIsRefusedWithWeightsOfOnesOwn) {
  const TempDir dir;
  auto options = sending_little(dir, ways()[2]);
  options.callbacks = {std::make_shared<WeightAveraging>()};
  const auto error = error_of([&] { weights_of(options); });
  EXPECT_THAT(error, HasSubstr("WeightAveraging averages the weights that one rank has"));
  EXPECT_THAT(error, HasSubstr("strategy = local_sgd"));
}

}  // namespace
}  // namespace troupe
