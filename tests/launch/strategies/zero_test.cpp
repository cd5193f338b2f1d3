// The strategies zero, zero2 and fsdp, on devices of one process: the numbers of one device.
#include "tests/launch/strategies/strategies.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using ::testing::HasSubstr;

constexpr auto dividing = {Strategy::zero, Strategy::zero2, Strategy::fsdp};

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
    if (name == "nadam") return optim::nadam(parameters(), {.lr = 0.01});
    if (name == "radam") return optim::radam(parameters(), {.lr = 0.01});
    if (name == "adamax") return optim::adamax(parameters(), {.lr = 0.01});
    if (name == "adadelta") return optim::adadelta(parameters());
    if (name == "asgd") return optim::asgd(parameters(), {.t0 = 2});
    if (name == "rprop") return optim::rprop(parameters(), {.lr = 0.001});
    if (name == "lion") return optim::lion(parameters(), {.lr = 0.001, .weight_decay = 0.1});
    if (name == "schedule_free") return optim::schedule_free_adamw(parameters(), {.lr = 0.01});
    if (name == "muon") return optim::muon(parameters(), {.lr = 0.01});
    if (name == "adafactor") return optim::adafactor(parameters());
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

TEST(DividedStrategies, TrainsToTheWeightsOfDdpWithEveryOptimizer) {
  for (const char* optimizer : {"sgd", "adamw", "adagrad", "rmsprop", "torch_adam", "groups"}) {
    const TempDir dir;
    const auto expected = trained(optimizer, options_with(dir, Strategy::ddp, 3));
    for (const auto strategy : dividing) {
      for (const int64_t devices : {3, 2, 1}) {
        EXPECT_LE(largest_difference(trained(optimizer, options_with(dir, strategy, devices)), expected), 1e-12)
            << optimizer << ' ' << name_of(strategy) << ' ' << devices;
      }
    }
  }
}

TEST(DividedStrategies, TrainsToTheWeightsOfDdpWithForeachOptimizers) {
  for (const char* optimizer : {"nadam", "radam", "adamax", "adadelta", "asgd", "rprop", "lion", "schedule_free"}) {
    const TempDir dir;
    const auto expected = trained(optimizer, options_with(dir, Strategy::ddp, 2));
    for (const auto strategy : dividing) {
      EXPECT_LE(largest_difference(trained(optimizer, options_with(dir, strategy, 2)), expected), 1e-12)
          << optimizer << ' ' << name_of(strategy);
    }
  }
}

TEST(DividedStrategies, RefusesOptimizersThatLookAtWholeMatrices) {
  const TempDir dir;
  for (const auto& [optimizer, title] : {std::pair{"muon", "(Muon)"}, std::pair{"adafactor", "(Adafactor)"}}) {
    EXPECT_THAT(error_of([&] { trained(optimizer, options_with(dir, Strategy::zero, 2)); }),
                ::testing::AllOf(HasSubstr("strategy = zero divides parameters into parts"), HasSubstr(title),
                                 HasSubstr("use one that does, such as SGD or AdamW, or strategy = ddp")));
  }
}

TEST(DividedStrategies, ClipsAndAccumulatesAsDdpDoes) {
  for (const auto algorithm : {GradientClipAlgorithm::norm, GradientClipAlgorithm::value}) {
    const TempDir dir;
    auto options = options_with(dir, Strategy::ddp, 2);
    options.accumulate_grad_batches = 3;
    options.gradient_clip_val = 0.05;
    options.gradient_clip_algorithm = algorithm;
    const auto expected = trained("sgd", options, 8);
    for (const auto strategy : dividing) {
      options.strategy = strategy;
      EXPECT_LE(largest_difference(trained("sgd", options, 8), expected), 1e-12)
          << name_of(algorithm) << ' ' << name_of(strategy);
    }
  }
}

TEST(DividedStrategies, SmallBucketsChangeNothing) {
  for (const auto strategy : {Strategy::zero, Strategy::zero2}) {
    const TempDir dir;
    auto options = options_with(dir, strategy, 2);
    const auto expected = trained("adamw", options);
    options.first_bucket_mb = 1e-5;
    options.bucket_cap_mb = 1e-4;
    EXPECT_LE(largest_difference(trained("adamw", options), expected), 1e-12) << name_of(strategy);
  }
}

TEST(DividedStrategies, SendsCompressedGradients) {
  const TempDir dir;
  auto options = options_with(dir, Strategy::zero, 2);
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
    for (const auto strategy : dividing) {
      options.gradient_compression = compression;
      options.strategy = strategy;
      const auto weights = Trainer(options).fit<AnyNet>({.optimizer = "sgd"}, loader)->weights();
      const double difference = largest_difference(weights, expected);
      EXPECT_GT(difference, 0) << name_of(compression) << ' ' << name_of(strategy);
      EXPECT_LE(difference, 0.02) << name_of(compression) << ' ' << name_of(strategy);
    }
  }
}

TEST(DividedStrategies, DividesTheOptimizersMemory) {
  const TempDir dir;
  const auto loader = loader_of(48, 4);
  const auto whole = Trainer(options_with(dir, Strategy::ddp, 3)).fit<AnyNet>({}, loader)->elements;
  EXPECT_EQ(whole, 4 * 9 + 9 + 9 * 2 + 2);
  for (const auto strategy : {Strategy::zero, Strategy::zero2}) {
    const auto part = Trainer(options_with(dir, strategy, 3)).fit<AnyNet>({}, loader)->elements;
    EXPECT_EQ(part, (whole + 2) / 3) << name_of(strategy);
  }
  const auto part = Trainer(options_with(dir, Strategy::fsdp, 3)).fit<AnyNet>({}, loader)->elements;
  EXPECT_EQ(part, (4 * 9 + 9 + 2) / 3 + (9 * 2 + 2 + 2) / 3);  // of two blocks
}

TEST(DividedStrategies, WritesOneCheckpointThatAnyNumberOfDevicesLoads) {
  const auto loader_for = [](int64_t devices) { return loader_of(48, 12 / devices); };
  const TempDir straight;
  auto options = options_with(straight, Strategy::ddp, 1);
  options.max_epochs = 4;
  const auto expected = Trainer(options).fit<AnyNet>({}, loader_for(1))->weights();
  const std::vector<std::pair<Strategy, int64_t>> ways = {
      {Strategy::zero, 2}, {Strategy::zero, 3}, {Strategy::ddp, 2}, {Strategy::zero2, 2}, {Strategy::fsdp, 3}};
  for (const auto& [first, devices] : ways) {
    for (const auto& [second, others] : ways) {
      const TempDir dir;
      auto before = options_with(dir, first, devices);
      before.max_epochs = 2;
      Trainer(before).fit<AnyNet>({}, loader_for(devices));
      auto after = options_with(dir, second, others);
      after.max_epochs = 4;
      const auto weights = Trainer(after).fit<AnyNet>({}, loader_for(others), {}, {.ckpt_path = "last"})->weights();
      EXPECT_LE(largest_difference(weights, expected), 1e-12)
          << name_of(first) << devices << ' ' << name_of(second) << others;
    }
  }
}

TEST(DividedStrategies, RefusesOptimizersThatLookAtAllElementsAtOnce) {
  for (const auto strategy : dividing) {
    const TempDir dir;
    Trainer trainer(options_with(dir, strategy, 2));
    const auto error = error_of([&] { trainer.fit<AnyNet>({.optimizer = "lbfgs"}, loader_of(8, 4)); });
    EXPECT_THAT(error, HasSubstr("strategy = " + name_of(strategy) + " divides parameters into parts"));
    EXPECT_THAT(error, HasSubstr("torch::optim::LBFGS"));
  }
}

TEST(DividedStrategies, TakesSeveralOptimizers) {
  for (const bool by_hand : {false, true}) {
    const TempDir dir;
    const auto alone =
        Trainer(options_with(dir, Strategy::automatic, 1)).fit<AnyPair>({by_hand}, loader_of(48, 12))->weights();
    for (const auto strategy : dividing) {
      const auto divided = Trainer(options_with(dir, strategy, 2)).fit<AnyPair>({by_hand}, loader_of(48, 6))->weights();
      EXPECT_LE(largest_difference(divided, alone), 1e-12) << name_of(strategy) << by_hand;
    }
  }
}

}  // namespace
}  // namespace troupe
