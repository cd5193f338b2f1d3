// BackboneFinetuning: what is frozen, which optimizer gets it when, and at which rate.
#include "tests/support/ddp.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"

#include <gmock/gmock.h>

namespace troupe {
namespace {

namespace nn = torch::nn;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pointwise;
using Numbers = std::vector<double>;

std::shared_ptr<BackboneFinetuning> finetuning(BackboneFinetuningOptions options) {
  return std::make_shared<BackboneFinetuning>(std::move(options));
}

DataLoader ones(int64_t batches) {
  return {std::make_shared<TensorDataset>(torch::ones({batches, 1})), {.batch_size = 1}};
}

// A weight of its own.
struct WeightImpl : nn::Module {
  WeightImpl() { value = register_parameter("value", torch::zeros({1})); }
  torch::Tensor value;
};

// Gradients are -1: a step adds the rate to a weight.
class Sum : public Module {
 public:
  Sum() {
    for (const char* name : {"a", "b", "head"}) weights[name] = register_module(name, std::make_shared<WeightImpl>());
  }
  StepOutput training_step(const Batch&, int64_t, int64_t) override {
    torch::Tensor sum = torch::zeros({1});
    for (const auto& [name, weight] : weights) sum = sum - weight->value;
    return sum.sum();
  }
  Optimizers configure_optimizers() override { return make_optimizers(*this); }
  void on_train_epoch_end() override {
    for (const auto& [name, weight] : weights) path[name].push_back(weight->value.to(torch::kFloat64).item<double>());
    rates.emplace_back();
    for (auto& group : trainer().optimizers()[0].param_groups()) rates.back().push_back(group.options().get_lr());
  }
  std::map<std::string, std::shared_ptr<WeightImpl>> weights;
  std::map<std::string, Numbers> path;
  std::vector<Numbers> rates;
  std::function<Optimizers(Sum&)> make_optimizers = [](Sum& sum) { return optim::sgd(sum.parameters(), {.lr = 1}); };
};

class Finetuning : public testing::Test {
 protected:
  std::shared_ptr<Sum> fit(std::vector<std::shared_ptr<Callback>> callbacks, int64_t epochs,
                           const std::function<Optimizers(Sum&)>& optimizers, bool resumes = false) {
    auto options = quiet(dir_);
    options.max_epochs = epochs;
    options.callbacks = std::move(callbacks);
    Trainer trainer(options);
    const auto model = std::make_shared<Sum>();
    model->make_optimizers = optimizers;
    RunArguments arguments;
    if (resumes) arguments.ckpt_path = last_.string();
    trainer.fit(model, ones(1), {}, std::move(arguments));
    last_ = trainer.run_dir() / "checkpoints/last.safetensors";
    return model;
  }
  TempDir dir_;
  std::filesystem::path last_;
};

const std::vector<std::function<Optimizers(Sum&)>> given_all = {
    [](Sum& sum) { return optim::sgd(sum.parameters(), {.lr = 1}); },
    [](Sum& sum) { return torch::optim::SGD(sum.parameters(), 1); },
    [](Sum& sum) { return optim::adam(sum.parameters(), {.lr = 1}); },
    [](Sum& sum) { return torch::optim::Adam(sum.parameters(), 1); },
    [](Sum& sum) { return optim::sgd(trainable(sum), {.lr = 1}); },
};

TEST_F(Finetuning, ABackboneThatTheOptimizerHasFromTheStartJoinsInAGroupOfItsOwn) {
  for (std::size_t i = 0; i < given_all.size(); ++i) {
    const auto make = [] { return finetuning({.backbone = "a", .unfreeze_backbone_at_epoch = 1}); };
    const auto model = fit({make()}, 6, given_all[i]);
    EXPECT_THAT(model->path["a"], Pointwise(testing::DoubleNear(1e-5), Numbers{0, 0.1, 0.3, 0.7, 1.5, 2.5})) << i;
    EXPECT_THAT(model->path["b"], Pointwise(testing::DoubleNear(1e-5), Numbers{1, 2, 3, 4, 5, 6})) << i;
    EXPECT_THAT(model->rates[0], ElementsAre(1)) << i;
    EXPECT_THAT(model->rates[3], ElementsAre(1, 0.4)) << i;
    for (const int64_t epochs : {1, 3}) {
      fit({make()}, epochs, given_all[i]);
      const auto resumed = fit({make()}, 6, given_all[i], /*resumes=*/true);
      EXPECT_EQ(resumed->path["a"].back(), model->path["a"].back()) << i << ' ' << epochs;
      EXPECT_EQ(resumed->path["b"].back(), model->path["b"].back()) << i << ' ' << epochs;
    }
  }
}

TEST_F(Finetuning, ARunThatGoesOnWithinAnEpochDoesNotRaiseTheRateAgain) {
  const auto fit_from = [&](std::optional<std::string> from) {
    auto options = quiet(dir_);
    options.max_epochs = 4;
    options.callbacks = {finetuning({.backbone = "a", .unfreeze_backbone_at_epoch = 1}),
                         std::make_shared<ModelCheckpoint>(
                             ModelCheckpointOptions{.filename = "{step}", .save_top_k = -1, .every_n_train_steps = 1})};
    Trainer trainer(options);
    const auto model = std::make_shared<Sum>();
    trainer.fit(model, ones(2), {}, {.ckpt_path = std::move(from)});
    last_ = trainer.run_dir() / "checkpoints";
    return model;
  };
  const auto whole = fit_from(std::nullopt);
  EXPECT_THAT(whole->rates.back(), ElementsAre(1, 0.4));
  const auto folder = last_;
  for (const char* name : {"step=1", "step=3", "step=4", "step=5", "step=7"}) {
    const auto resumed = fit_from((folder / (std::string(name) + ".safetensors")).string());
    EXPECT_EQ(resumed->rates.back(), whole->rates.back()) << name;
    EXPECT_EQ(resumed->path["a"].back(), whole->path["a"].back()) << name;
  }
}

TEST_F(Finetuning, ABackboneStaysWithTheOptimizersThatHaveIt) {
  // One that is first in a group, one in the second optimizer, one in both.
  const auto optimizers = [](Sum& sum) -> Optimizers {
    const auto value = [&](const char* name) { return sum.weights.at(name)->value; };
    const auto first = optim::sgd({{.params = {value("a")}, .lr = 5}, {.params = {value("head")}}}, {.lr = 1});
    return {OptimizerPtr(first), OptimizerPtr(optim::sgd({value("b"), value("a")}, {.lr = 10}))};
  };
  const auto model = fit({finetuning({.backbone = "a", .unfreeze_backbone_at_epoch = 1})}, 2, optimizers);
  EXPECT_THAT(model->path["head"], ElementsAre(1, 2));
  EXPECT_THAT(model->path["b"], ElementsAre(10, 20));
  EXPECT_THAT(model->path["a"], Pointwise(testing::DoubleNear(1e-6), Numbers{0, 0.1 + 1}));
  EXPECT_THAT(model->rates.back(), ElementsAre(5, 1, 0.1));
}

TEST_F(Finetuning, SeveralBackbonesHaveRatesOfTheirOwn) {
  const auto a = [] {
    return finetuning({.backbone = "a", .unfreeze_backbone_at_epoch = 1, .backbone_initial_lr = 0.01});
  };
  const auto b = [] {
    return finetuning({.backbone = "b", .unfreeze_backbone_at_epoch = 3, .backbone_initial_lr = 0.001});
  };
  const auto trained = [](Sum& sum) { return optim::sgd(trainable(sum), {.lr = 1}); };
  const auto model = fit({a(), b()}, 6, trained);
  EXPECT_THAT(model->rates[3], ElementsAre(1, 0.04, 0.001));
  EXPECT_THAT(model->rates[4], ElementsAre(1, 0.08, 0.002));
  EXPECT_THAT(model->rates[5], ElementsAre(1, 0.16, 0.004));
  // In the other order their groups come in the order of their epochs all the same.
  EXPECT_EQ(fit({b(), a()}, 6, trained)->rates, model->rates);
  for (const int64_t epochs : {2, 4}) {
    for (const bool turned : {false, true}) {
      const auto callbacks = [&]() -> std::vector<std::shared_ptr<Callback>> {
        if (turned) return {b(), a()};
        return {a(), b()};
      };
      fit(callbacks(), epochs, trained);
      const auto resumed = fit(callbacks(), 6, trained, /*resumes=*/true);
      EXPECT_EQ(resumed->rates.back(), model->rates.back()) << epochs << turned;
      EXPECT_EQ(resumed->path["a"].back(), model->path["a"].back()) << epochs << turned;
      EXPECT_EQ(resumed->path["b"].back(), model->path["b"].back()) << epochs << turned;
    }
  }
}

// A parameter in two groups would be stepped twice.
TEST_F(Finetuning, BackbonesWithAParameterInCommonAreRefusedBeforeTraining) {
  class Nested : public Sum {
   public:
    Nested() { register_module("outer", std::make_shared<nn::Module>())->register_module("inner", weights["a"]); }
  };
  auto options = quiet(dir_);
  options.callbacks = {finetuning({.backbone = "outer"}), finetuning({.backbone = "a"})};
  EXPECT_THAT(error_of([&] { Trainer(options).fit(std::make_shared<Nested>(), ones(1)); }),
              HasSubstr("the backbones 'outer' and 'a' both have the parameter a.value"));
}

TEST_F(Finetuning, AGroupThatSomebodyAddsKeepsItsRate) {
  const auto adds = std::make_shared<LambdaCallback>(
      LambdaCallbackOptions{.on_train_epoch_start = [](RunContext& run, Module& module) {
        if (run.progress().epoch != 2) return;
        auto& sum = dynamic_cast<Sum&>(module);
        sum.weights["b"]->value.set_requires_grad(true);
        auto& optimizer = run.optimizers()[0];
        optimizer.add_param_group(torch::optim::OptimizerParamGroup({sum.weights["b"]->value}));
        optimizer.param_groups().back().options().set_lr(7);
      }});
  const auto model = fit({finetuning({.backbone = "a", .unfreeze_backbone_at_epoch = 1}), adds}, 5, [](Sum& sum) {
    sum.weights["b"]->value.set_requires_grad(false);
    return optim::sgd(trainable(sum), {.lr = 1});
  });
  EXPECT_THAT(model->rates.back(), ElementsAre(1, 0.8, 7));
}

TEST_F(Finetuning, AnOptimizerOfOneGroupIsRefusedBeforeTraining) {
  const auto error = error_of([&] {
    fit({finetuning({.backbone = "a"})}, 2, [](Sum& sum) { return torch::optim::LBFGS(sum.parameters(), 1); });
  });
  EXPECT_THAT(error, HasSubstr("LBFGS takes one group of parameters"));
}

// --- Frozen statistics ---

class NormedBackbone : public Module {
 public:
  NormedBackbone() {
    backbone_ = register_module("backbone", nn::Sequential(nn::Linear(1, 4), nn::BatchNorm1d(4)));
    instance_ = nn::InstanceNorm1d(nn::InstanceNorm1dOptions(4).affine(true).track_running_stats(true));
    backbone_->push_back(instance_);
    head_ = register_module("head", nn::Linear(4, 1));
  }
  torch::Tensor forward(torch::Tensor x) override {
    const auto layers = backbone_->children();
    const auto y = std::dynamic_pointer_cast<nn::LinearImpl>(layers[0])->forward(x);
    const auto as_image = y.t().unsqueeze(0);  // one sample, whose positions are the batch
    return head_(std::dynamic_pointer_cast<nn::BatchNorm1dImpl>(layers[1])->forward(y) +
                 instance_(as_image).squeeze(0).t());
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(forward(batch[0]), batch[1]);
  }
  StepOutput validation_step(const Batch& batch, int64_t) override { return forward(batch[0]).mean(); }
  void on_validation_model_train() override { wakes ? train() : Module::on_validation_model_train(); }
  Optimizers configure_optimizers() override { return optim::sgd(trainable(*this), {.lr = 0.01}); }
  void on_train_epoch_end() override {
    Numbers now;
    for (const auto& buffer : backbone_->named_buffers()) {
      if (buffer.key().ends_with("running_mean")) now.push_back(buffer.value().abs().sum().item<double>());
      if (buffer.key() == "1.num_batches_tracked") now.push_back(buffer.value().item<double>());
    }
    statistics.push_back(now);
  }
  bool rests() const { return !backbone_->children()[1]->is_training() && !instance_->is_training(); }
  bool wakes = false;
  std::vector<Numbers> statistics;

 private:
  nn::Sequential backbone_;
  nn::InstanceNorm1d instance_{nullptr};
  nn::Linear head_{nullptr};
};

TEST(FrozenNorms, LeaveTheirStatisticsAloneUntilTheBackboneIsTrained) {
  for (const bool wakes : {false, true}) {
    const TempDir dir;
    auto options = quiet(dir);
    options.max_epochs = 3;
    options.callbacks = {finetuning({.unfreeze_backbone_at_epoch = 2, .train_bn = false})};
    const auto model = std::make_shared<NormedBackbone>();
    model->wakes = wakes;
    Trainer(options).fit(model, points(), points(64, false));
    EXPECT_THAT(model->statistics[0], testing::Each(0)) << wakes;
    EXPECT_THAT(model->statistics[1], testing::Each(0)) << wakes;
    EXPECT_THAT(model->statistics[2], testing::Each(testing::Gt(0))) << wakes;
    EXPECT_EQ(model->statistics[2][1], 4) << wakes;
    EXPECT_FALSE(model->rests());
  }
}

TEST(FrozenNorms, GoOnToLearnWithTrainBn) {
  const TempDir dir;
  auto options = quiet(dir);
  options.callbacks = {finetuning({.unfreeze_backbone_at_epoch = 5})};
  const auto model = std::make_shared<NormedBackbone>();
  Trainer(options).fit(model, points());
  EXPECT_EQ(model->statistics[1][1], 8);
  EXPECT_THAT(model->statistics[0], testing::Each(testing::Gt(0)));
}

TEST(FrozenNorms, RestAfterAResumeAndNotAfterTheRun) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 1;
  options.callbacks = {finetuning({.unfreeze_backbone_at_epoch = 5, .train_bn = false})};
  Trainer first(options);
  const auto model = std::make_shared<NormedBackbone>();
  first.fit(model, points(), points(64, false));
  EXPECT_FALSE(model->rests()) << "the run is over";
  options.max_epochs = 2;
  const auto resumed = std::make_shared<NormedBackbone>();
  Trainer(options).fit(resumed, points(), points(64, false),
                       {.ckpt_path = (first.run_dir() / "checkpoints/last.safetensors").string()});
  EXPECT_THAT(resumed->statistics.back(), testing::Each(0));
}

// --- Several devices ---

class NetWithBackbone : public Net {
 public:
  using Net::Net;
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.05, .momentum = 0.9}); }
};

TEST(FinetuningOnDevices, GivesTheWeightsOfOneDevice) {
  torch::Tensor alone;
  for (const auto& [devices, strategy] :
       {std::pair{int64_t{1}, Strategy::automatic}, {2, Strategy::ddp}, {2, Strategy::zero}, {2, Strategy::dp}}) {
    const TempDir dir;
    auto options = exact(dir, devices);
    options.strategy = strategy;
    options.max_epochs = 4;
    options.callbacks = {finetuning({.backbone = "net.0", .unfreeze_backbone_at_epoch = 1})};
    const bool is_whole = devices == 1 || strategy == Strategy::dp;
    const auto model =
        Trainer(options).fit<NetWithBackbone>({}, DataLoader(samples(24), {.batch_size = is_whole ? 12 : 6}));
    if (devices == 1) alone = model->weights();
    EXPECT_LE(largest_difference(model->weights(), alone), 1e-12) << name_of(strategy);
  }
}

}  // namespace
}  // namespace troupe
