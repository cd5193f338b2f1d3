// Weights that layers share, and averages of weights.
#include "tests/support/lines.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

#include <cmath>

namespace troupe {
namespace {

namespace nn = torch::nn;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

DataLoader counted_numbers(int64_t count, int64_t batch_size) {
  return {std::make_shared<TensorDataset>(torch::arange(count, torch::kFloat32).unsqueeze(1) / count),
          {.batch_size = batch_size}};
}

// Keeps all of its tensors after each batch.
class WatchedAndShared : public Module {
 public:
  StepOutput validation_step(const Batch& batch, int64_t) override {
    validated.push_back(all());
    log("val_loss", forward(batch[0]).mean());
    return {};
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override { trained.push_back(all()); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(forward(batch[0]), 1 - batch[0]);
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.5}); }
  torch::Tensor all() const {
    std::vector<torch::Tensor> flat;
    for (const auto& each : named_parameters()) flat.push_back(each.value().detach().to(torch::kFloat64).flatten());
    for (const auto& each : named_buffers()) flat.push_back(each.value().to(torch::kFloat64).flatten());
    return torch::cat(flat);
  }
  std::vector<torch::Tensor> trained, validated;
};

// Each shares something.
class TiedEmbedding : public WatchedAndShared {
 public:
  TiedEmbedding() {
    embedding_ = register_module("embedding", nn::Embedding(6, 4));
    decoder_ = register_module("decoder", nn::Linear(nn::LinearOptions(4, 6).bias(false)));
    tie_weights(*decoder_, decoder_->weight, embedding_->weight);
  }
  torch::Tensor forward(torch::Tensor x) override {
    return decoder_(embedding_((x.squeeze(1) * 6).to(torch::kLong))).mean(1, /*keepdim=*/true);
  }

 private:
  nn::Embedding embedding_{nullptr};
  nn::Linear decoder_{nullptr};
};

class LayerTwice : public WatchedAndShared {
 public:
  LayerTwice() { register_module("b", register_module("a", layer_)); }
  torch::Tensor forward(torch::Tensor x) override { return layer_(layer_(x)); }

 private:
  nn::Linear layer_{nn::Linear(1, 1)};
};

class NormTwice : public WatchedAndShared {
 public:
  NormTwice() { register_module("b", register_module("a", norm_)); }
  torch::Tensor forward(torch::Tensor x) override { return norm_(x); }

 private:
  nn::BatchNorm1d norm_{nn::BatchNorm1d(1)};
};

// A buffer that is a view of a weight is a tensor of its own, in the same memory.
class ViewOfAWeight : public WatchedAndShared {
 public:
  ViewOfAWeight() {
    register_module("layer", layer_);
    register_buffer("view", layer_->weight.detach());
  }
  torch::Tensor forward(torch::Tensor x) override { return layer_(x); }

 private:
  nn::Linear layer_{nn::Linear(1, 1)};
};

template <class M>
std::shared_ptr<M> fitted(const TempDir& dir, std::vector<std::shared_ptr<Callback>> callbacks,
                          Precision precision = Precision::float32) {
  torch::manual_seed(3);
  auto options = quiet(dir);
  options.max_epochs = 3;
  options.precision = precision;
  options.callbacks = std::move(callbacks);
  Trainer trainer(options);
  return trainer.fit(std::make_shared<M>(), counted_numbers(12, 3), counted_numbers(6, 6));
}

template <class M>
class SharedWeights : public testing::Test {};
using Sharing = testing::Types<TiedEmbedding, LayerTwice, NormTwice, ViewOfAWeight>;
TYPED_TEST_SUITE(SharedWeights, Sharing);

TYPED_TEST(SharedWeights, AreTrainedAlikeWithAnAverageBesideThem) {
  for (const auto precision : {Precision::float32, Precision::bfloat16_true}) {
    const TempDir dir;
    const auto alone = fitted<TypeParam>(dir, {}, precision);
    const auto averaged =
        fitted<TypeParam>(dir, {std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9})}, precision);
    ASSERT_EQ(averaged->trained.size(), 12u);
    for (std::size_t i = 0; i < 12; ++i) {
      EXPECT_TRUE(torch::equal(averaged->trained[i], alone->trained[i])) << name_of(precision) << ", batch " << i;
    }
  }
}

TYPED_TEST(SharedWeights, AreAveragedOnce) {
  const TempDir dir;
  const auto model = fitted<TypeParam>(dir, {std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.75})});
  // Counts of batches are whole numbers, which are not averaged: the last value of a batch norm.
  const auto averaged = [&](const torch::Tensor& all) {
    return std::is_same_v<TypeParam, NormTwice> ? all.slice(0, 0, 4) : all;
  };
  auto expected = averaged(model->trained[0]).clone();
  std::size_t validation = 1;  // the first one is the sanity check
  for (std::size_t i = 1; i < 12; ++i) {
    expected = 0.75 * expected + 0.25 * averaged(model->trained[i]);
    if (i % 4 != 3) continue;
    EXPECT_LT((averaged(model->validated[validation++]) - expected).abs().max().template item<double>(), 1e-6) << i;
  }
  EXPECT_LT((averaged(model->all()) - expected).abs().max().template item<double>(), 1e-6);
}

TEST(SharedWeightsList, HasEachTensorOnceWithAllItsNames) {
  const TiedEmbedding tied;
  const auto parameters = distinct_parameters(tied);
  ASSERT_EQ(parameters.size(), 1u);
  EXPECT_THAT(parameters[0].names, ElementsAre("embedding.weight", "decoder.weight"));
  EXPECT_EQ(trainable(tied).size(), 1u);
  const nn::Module& base = tied;  // parameters() is not virtual
  EXPECT_EQ(base.parameters().size(), 2u);
  EXPECT_EQ(trainable(base).size(), 1u);
  const NormTwice norm;
  EXPECT_EQ(norm.parameters().size(), 2u);
  EXPECT_EQ(norm.buffers().size(), 3u);
  EXPECT_DOUBLE_EQ(norm.model_size(), (4 * 4 + 8) * 1e-6);
  EXPECT_EQ(distinct_parameters(norm, /*recurse=*/false).size(), 0u);
}

TEST(SharedWeightsList, AnOptimizerThatWouldStepOneTwiceIsRefused) {
  class Careless : public TiedEmbedding {
   public:
    Optimizers configure_optimizers() override {
      nn::Module& base = *this;
      return torch::optim::SGD(base.parameters(), 0.5);
    }
  };
  const TempDir dir;
  EXPECT_THAT(error_of([&] { fitted<Careless>(dir, {}); }),
              HasSubstr("optimizer 0 has the parameter embedding.weight, decoder.weight twice"));
  const TiedEmbedding tied;
  EXPECT_THAT(refusal([&] { optim::adam(static_cast<const nn::Module&>(tied).parameters(), {}); }),
              HasSubstr("distinct_parameters"));
}

// --- Averages of narrow weights ---

// Two steps bring w to 1 and 2, where it stays.
class TwoSteps : public Module {
 public:
  TwoSteps() { w = register_parameter("w", torch::zeros({1})); }
  StepOutput training_step(const Batch&, int64_t) override {
    return w.sum() * (trainer().progress().global_step < 2 ? -1.0 : 0.0);
  }
  Optimizers configure_optimizers() override { return torch::optim::SGD(parameters(), 1.0); }
  torch::Tensor w;
};

double average_after(int64_t steps, WeightAveragingOptions options, Precision precision) {
  const TempDir dir;
  auto trainer_options = quiet(dir);
  trainer_options.max_epochs = 1;
  trainer_options.precision = precision;
  trainer_options.callbacks = {std::make_shared<WeightAveraging>(options)};
  Trainer trainer(trainer_options);
  const auto model = trainer.fit(std::make_shared<TwoSteps>(), counted_numbers(steps, 1));
  const auto checkpoint = read_checkpoint(trainer.run_dir() / "checkpoints/last.safetensors");
  const auto* wide = checkpoint.find("callback.WeightAveraging..average.w");
  const auto average = (wide ? *wide : *checkpoint.find("model.w")).to(torch::kFloat64);
  EXPECT_EQ(wide != nullptr, model->w.element_size() < 4) << name_of(precision);
  EXPECT_TRUE(torch::equal(model->w, average.to(model->w.scalar_type()))) << name_of(precision);
  return average.item<double>();
}

TEST(AveragedWeights, MoveBySmallStepsInAnyPrecision) {
  for (const auto precision :
       {Precision::float32, Precision::float64, Precision::bfloat16_true, Precision::float16_true}) {
    EXPECT_NEAR(average_after(701, {.decay = 0.999}, precision), 2 - std::pow(0.999, 700), 2e-5) << name_of(precision);
    EXPECT_NEAR(average_after(701, {}, precision), (1 + 2 * 700) / 701.0, 2e-5) << name_of(precision);
  }
}

TEST(AveragedWeights, OfBfloat16GoOnExactly) {
  const TempDir dir;
  const auto fit = [&](std::optional<std::string> from) {
    torch::manual_seed(1);
    auto options = quiet(dir);
    options.max_epochs = 4;
    options.precision = Precision::bfloat16_true;
    options.callbacks = {std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.99}),
                         std::make_shared<ModelCheckpoint>(
                             ModelCheckpointOptions{.filename = "{step}", .save_top_k = -1, .every_n_train_steps = 6})};
    Trainer trainer(options);
    trainer.fit(std::make_shared<Line>(), points(), points(64, false), {.ckpt_path = std::move(from)});
    return trainer.run_dir() / "checkpoints";
  };
  const auto whole = fit(std::nullopt), resumed = fit((whole / "step=6.safetensors").string());
  const auto expected = read_checkpoint(whole / "step=12.safetensors");
  const auto actual = read_checkpoint(resumed / "step=12.safetensors");
  for (const char* name : {"model.layer.weight", "callback.WeightAveraging.layer.weight",
                           "callback.WeightAveraging..average.layer.weight"}) {
    ASSERT_NE(actual.find(name), nullptr) << name;
    EXPECT_TRUE(torch::equal(*actual.find(name), *expected.find(name))) << name;
  }
  EXPECT_EQ(actual.find("callback.WeightAveraging..average.layer.bias")->scalar_type(), torch::kFloat32);
}

TEST(AveragedWeights, OfAnotherPrecisionAreTakenOver) {
  const TempDir dir;
  const auto fit = [&](Precision precision, int64_t epochs, std::optional<std::string> from) {
    auto options = quiet(dir);
    options.max_epochs = epochs;
    options.precision = precision;
    options.callbacks = {std::make_shared<WeightAveraging>()};
    Trainer trainer(options);
    trainer.fit(std::make_shared<Line>(), points(), {}, {.ckpt_path = std::move(from)});
    return (trainer.run_dir() / "checkpoints/last.safetensors").string();
  };
  EXPECT_EQ(error_of([&] { fit(Precision::float32, 2, fit(Precision::bfloat16_true, 1, std::nullopt)); }), "");
  EXPECT_EQ(error_of([&] { fit(Precision::bfloat16_true, 2, fit(Precision::float32, 1, std::nullopt)); }), "");
}

}  // namespace
}  // namespace troupe
