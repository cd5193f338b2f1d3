// The strategy fsdp: blocks of parameters that are whole while they are used.
#include "tests/launch/strategies/strategies.hpp"

#include "bench/counted_memory.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using ::testing::HasSubstr;

struct FsdpNetOptions {
  std::string optimizer = "adamw";
  int64_t layers = 4, width = 6;
  bool names_blocks = false, has_checkpoints = false, is_tied = false, has_frozen = false;
  int64_t skips = -1;  ///< a batch for which rank 1 has no loss
};
TROUPE_OPTIONS(FsdpNetOptions, (optimizer, "its name"), (layers, "how many"), (width, "units"),
               (names_blocks, "as sharding_blocks"), (has_checkpoints, "activation checkpoints"),
               (is_tied, "the last layer is the first one's"), (has_frozen, "a layer is not trained"),
               (skips, "a batch"))

// Layers that are used one after the other, and what a training with them needs.
class FsdpNet : public ModuleWith<FsdpNetOptions> {
 public:
  explicit FsdpNet(FsdpNetOptions options = {}) : ModuleWith(std::move(options)) {
    const auto width = this->options().width;
    scale_ = register_parameter("scale", torch::ones({4}));
    first_ = register_module("first", torch::nn::Linear(4, width));
    layers_ = register_module("layers", torch::nn::ModuleList());
    for (int64_t i = 0; i < this->options().layers; ++i) {
      layers_->push_back(torch::nn::Linear(torch::nn::LinearOptions(width, width).bias(false)));
    }
    last_ = register_module("last", torch::nn::Linear(width, 2));
    auto& second = *layers_->ptr(1)->as<torch::nn::Linear>();
    if (this->options().is_tied) tie_weights(second, second.weight, layers_->ptr(0)->as<torch::nn::Linear>()->weight);
    if (this->options().has_frozen) second.weight.set_requires_grad(false);
  }
  std::vector<std::shared_ptr<torch::nn::Module>> sharding_blocks() const override {
    if (!options().names_blocks) return {};
    return {layers_->ptr(0), layers_->ptr(2), layers_.ptr()};
  }
  torch::Tensor forward(torch::Tensor x) override {
    x = first_(x * scale_);
    for (const auto& layer : *layers_) {
      const auto run = [layer](const torch::Tensor& in) {
        return torch::tanh(layer->as<torch::nn::Linear>()->forward(in));
      };
      x = options().has_checkpoints ? activation_checkpoint(run, x) : run(x);
    }
    return last_(x);
  }
  torch::Tensor error(const Batch& batch) { return torch::mse_loss(forward(batch[0]), batch[1]); }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (batch_idx == options().skips && global_rank() == 1) return {};
    return error(batch);
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("val_loss", error(batch));
    return {};
  }
  Optimizers configure_optimizers() override {
    if (options().optimizer == "sgd") return optim::sgd(parameters(), {.lr = 0.05, .momentum = 0.9});
    return optim::adamw(parameters(), {.lr = 0.01});
  }
  EpochControl on_train_batch_start(const Batch&, int64_t batch_idx) override {
    if (batch_idx == 2 && global_rank() == 0) bench::CountedMemory::begin_again();
    return EpochControl::proceed;
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    most_bytes = bench::CountedMemory::most_bytes();
  }
  void on_train_end() override {
    const auto all = all_gather(weights());
    EXPECT_EQ((all - all[0]).abs().max().item<double>(), 0);
  }
  torch::Tensor weights() const {
    std::vector<torch::Tensor> flat;
    for (const auto& parameter : parameters()) flat.push_back(parameter.detach().flatten());
    return torch::cat(flat);
  }
  int64_t most_bytes = 0;  ///< of all ranks at one time, from the third batch on, if they are counted

 private:
  torch::Tensor scale_;
  torch::nn::Linear first_{nullptr}, last_{nullptr};
  torch::nn::ModuleList layers_{nullptr};
};

// With mixed precision batches stay float32.
DataLoader batches_of(int64_t count, int64_t batch_size, Precision precision) {
  const auto whole = samples(count);
  std::vector<int64_t> indices(static_cast<std::size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  const auto batch = *whole->get_batch(indices);
  const auto type = precision == Precision::float64 ? torch::kFloat64 : torch::kFloat32;
  return DataLoader(std::make_shared<TensorDataset>(batch[0].to(type), batch[1].to(type)), {.batch_size = batch_size});
}

std::shared_ptr<FsdpNet> deep(const FsdpNetOptions& model, const TrainerOptions& options, int64_t global_batch = 12) {
  return Trainer(options).fit<FsdpNet>(model, batches_of(48, global_batch / options.devices, options.precision),
                                       batches_of(10, 4, options.precision));
}

double difference_from_ddp(const FsdpNetOptions& model, TrainerOptions options, int64_t global_batch = 12) {
  options.strategy = Strategy::ddp;
  const auto expected = deep(model, options, global_batch)->weights();
  options.strategy = Strategy::fsdp;
  return largest_difference(deep(model, options, global_batch)->weights(), expected);
}

TEST(Fsdp, TrainsToTheWeightsOfDdpWhateverTheBlocks) {
  for (const int64_t devices : {2, 3}) {
    const TempDir dir;
    const auto options = options_with(dir, Strategy::fsdp, devices);
    EXPECT_LE(difference_from_ddp({}, options), 1e-12);
    EXPECT_LE(difference_from_ddp({.names_blocks = true}, options), 1e-12);
    EXPECT_LE(difference_from_ddp({.is_tied = true}, options), 1e-12);
    EXPECT_LE(difference_from_ddp({.has_frozen = true}, options), 1e-12);
  }
}

TEST(Fsdp, ComputesCheckpointedLayersAgain) {
  const TempDir dir;
  EXPECT_LE(difference_from_ddp({.has_checkpoints = true}, options_with(dir, Strategy::fsdp, 2)), 1e-12);
}

TEST(Fsdp, AccumulatesAndClips) {
  const TempDir dir;
  auto options = options_with(dir, Strategy::fsdp, 2);
  options.accumulate_grad_batches = 4;
  options.gradient_clip_val = 0.05;
  EXPECT_LE(difference_from_ddp({.optimizer = "sgd"}, options, 6), 1e-12);
}

TEST(Fsdp, TrainsWithMixedPrecision) {
  for (const auto precision : {Precision::bfloat16_mixed, Precision::float16_mixed}) {
    const TempDir dir;
    auto options = options_with(dir, Strategy::fsdp, 2);
    options.precision = precision;
    options.accumulate_grad_batches = 2;
    EXPECT_LE(difference_from_ddp({.optimizer = "sgd"}, options), 1e-6) << name_of(precision);
  }
}

TEST(Fsdp, DividesParametersGradientsAndStates) {
  constexpr int64_t layers = 32, width = 64;
  constexpr int64_t layer = width * width * 8, all = layers * layer;
  const FsdpNetOptions model = {.layers = layers, .width = width};
  const bench::CountedMemory counted;
  const auto most_bytes = [&](Strategy strategy, int64_t devices) {
    const TempDir dir;
    auto options = options_with(dir, strategy, devices);
    options.max_epochs = 1;
    options.first_bucket_mb = options.bucket_cap_mb = 0.03;  // a layer
    return deep(model, options)->most_bytes / devices;
  };
  // Parameters, gradients and the two states of Adam, and what is whole while a few layers are computed and reduced:
  // the layers, the gradients that autograd makes and those that are on their way.
  for (const int64_t devices : {2, 3}) {
    const int64_t others = 13 * layer;
    EXPECT_GT(most_bytes(Strategy::ddp, devices), 4 * all);
    EXPECT_GT(most_bytes(Strategy::zero, devices), 2 * all + 2 * all / devices);
    EXPECT_LE(most_bytes(Strategy::zero2, devices), all + 3 * all / devices + others);
    EXPECT_LE(most_bytes(Strategy::fsdp, devices), 4 * all / devices + others);
  }
}

// The checkpoint below `dir` after so many batches of the first epoch.
std::filesystem::path checkpoint_after(const TempDir& dir, int64_t batches) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto progress = read_checkpoint_metadata(entry.path()).at("progress");
    if (progress.at("batch_idx") == batches && progress.at("epoch") == 0) return entry.path();
  }
  throw std::runtime_error("there is no checkpoint after batch " + std::to_string(batches));
}

TEST(Fsdp, GoesOnInTheMiddleOfAWindowOfAnyStrategy) {
  using Way = std::pair<Strategy, int64_t>;
  const std::vector<Way> ways = {{Strategy::fsdp, 2}, {Strategy::ddp, 2}, {Strategy::zero2, 2}, {Strategy::fsdp, 3}};
  const auto fit = [](const TempDir& dir, const Way& way, const std::string& from = "") {
    auto options = options_with(dir, way.first, way.second);
    options.accumulate_grad_batches = 3;
    options.max_epochs = 2;
    options.val_check_interval = 2;  // batches, within a window
    options.callbacks = {std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.save_top_k = -1})};
    return Trainer(options)
        .fit<FsdpNet>({.optimizer = "sgd"}, loader_of(48, 6 / way.second), loader_of(10, 4, /*shuffle=*/false),
                      {.ckpt_path = from})
        ->weights();
  };
  const TempDir straight;
  const auto expected = fit(straight, {Strategy::ddp, 2});
  for (const auto& first : ways) {
    const TempDir dir;
    (void)fit(dir, first);
    const auto from = checkpoint_after(dir, 2).string();
    for (const auto& second : ways) {
      const TempDir other;
      EXPECT_LE(largest_difference(fit(other, second, from), expected), 1e-12)
          << name_of(first.first) << first.second << ' ' << name_of(second.first) << second.second;
    }
  }
}

TEST(Fsdp, TakesPartInPassesOfOthersWithoutALoss) {
  const TempDir dir;
  const auto options = options_with(dir, Strategy::fsdp, 2);
  EXPECT_LE(difference_from_ddp({.skips = 2}, options), 1e-12);
  const auto error = error_of([&] { deep({.skips = 0}, options); });
  EXPECT_THAT(error, HasSubstr("a rank without a loss takes part in the others' passes as in its own pass before"));
}

TEST(Fsdp, AveragesWeights) {
  const auto averaged = [](Strategy strategy) {
    const TempDir dir;
    auto options = options_with(dir, strategy, 2);
    options.callbacks = {std::make_shared<WeightAveraging>(WeightAveragingOptions{.decay = 0.9})};
    return deep({}, options)->weights();
  };
  EXPECT_LE(largest_difference(averaged(Strategy::fsdp), averaged(Strategy::ddp)), 1e-12);
}

// It changes its parameters itself, and calls save_checkpoint in the middle if it is to.
class ClampingNet : public FsdpNet {
 public:
  explicit ClampingNet(FsdpNetOptions options) : FsdpNet(std::move(options)) {}
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override {
    const torch::NoGradGuard no_gradients;
    for (auto& parameter : parameters()) parameter.clamp_(-0.2, 0.2);
    if (options().skips == 99) trainer().save_checkpoint("weights.ckpt");
  }
};

TEST(Fsdp, KeepsWhatUserCodeWritesIntoParameters) {
  const auto weights = [](Strategy strategy) {
    const TempDir dir;
    return Trainer(options_with(dir, strategy, 2)).fit<ClampingNet>({}, loader_of(48, 6))->weights();
  };
  const auto fsdp = weights(Strategy::fsdp);
  EXPECT_LE(fsdp.abs().max().item<double>(), 0.2);
  EXPECT_LE(largest_difference(fsdp, weights(Strategy::ddp)), 1e-12);
}

TEST(Fsdp, RefusesWhatOneRankCannotDoAlone) {
  const TempDir dir;
  Trainer trainer(options_with(dir, Strategy::fsdp, 2));
  const auto error = error_of([&] { trainer.fit<ClampingNet>({.skips = 99}, loader_of(48, 6)); });
  EXPECT_THAT(error, HasSubstr("with strategy = fsdp no rank has the model by itself"));
}

class StrangerNamingNet : public FsdpNet {
 public:
  explicit StrangerNamingNet(FsdpNetOptions options) : FsdpNet(std::move(options)) {}
  std::vector<std::shared_ptr<torch::nn::Module>> sharding_blocks() const override {
    return {std::make_shared<torch::nn::LinearImpl>(2, 2)};
  }
};

TEST(Fsdp, RefusesBlocksThatAreNoLayersOfTheModule) {
  const TempDir dir;
  Trainer trainer(options_with(dir, Strategy::fsdp, 2));
  EXPECT_THAT(error_of([&] { trainer.fit<StrangerNamingNet>({}, loader_of(48, 6)); }),
              HasSubstr("that the module has not registered"));
}

}  // namespace
}  // namespace troupe
