// Sequences cut in parts, LBFGS, accumulation by epoch and averaged weights through a Trainer, against PyTorch loops of
// 50 steps: losses and weights to 1e-10 in float64, to 1e-5 in float32.
#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

namespace nn = torch::nn;

class TrainingLoopsParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { reference_ = pytorch_reference("training_loops.py"); }
  static void TearDownTestSuite() { reference_.clear(); }

  static Tensors reference_;
};
Tensors TrainingLoopsParity::reference_;

// --- Truncated back-propagation through time ---

class Recurrent : public Module {
 public:
  Recurrent(const Tensors& reference, torch::ScalarType type) {
    lstm_ = register_module("lstm", nn::LSTM(nn::LSTMOptions(3, 5).batch_first(true)));
    head_ = register_module("head", nn::Linear(5, 2));
    set_floating_type(*this, type);
    start_from(*this, reference, "truncated.start.");
    truncated_bptt_steps = 4;
  }
  StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
    std::optional<std::tuple<torch::Tensor, torch::Tensor>> state;
    if (!hiddens.empty()) state = {hiddens["hidden_h"], hiddens["hidden_c"]};
    const auto [out, next] = lstm_(part[0], state);
    const auto loss = torch::mse_loss(head_(out), part[1]);
    losses.push_back(loss.detach());
    return {{"loss", loss}, {"hidden_h", std::get<0>(next)}, {"hidden_c", std::get<1>(next)}};
  }
  Optimizers configure_optimizers() override { return optim::adamw(parameters(), {.lr = 0.01}); }

  std::vector<torch::Tensor> losses;

 private:
  nn::LSTM lstm_{nullptr};
  nn::Linear head_{nullptr};
};

TEST_F(TrainingLoopsParity, PartsOfASequenceCarryTheirHiddenStates) {
  for (const auto& type : number_types) {
    const std::string key = std::string("truncated.") + type.name;
    SCOPED_TRACE(key);
    Trainer trainer(bare(type.precision, {.max_steps = 54}));
    const auto model = trainer.fit(std::make_shared<Recurrent>(reference_, type.type),
                                   batches_of(reference_, type.type, 8, -1, ".time"));
    expect_losses(model->losses, reference_, key, type.tolerance);
    expect_weights(*model, reference_, key, type.tolerance, "truncated.start.");
  }
}

// --- LBFGS, which calls the closure several times a step ---

// In float64: float32's rounding grows, as optimizers_parity_test says.
class LbfgsParity : public TrainingLoopsParity {
 protected:
  static void compare(const std::string& key, TrainerOptions options) {
    const auto make = [](std::vector<torch::Tensor> parameters) -> Optimizers {
      return optim::lbfgs(std::move(parameters), {.lr = 0.3, .max_iter = 4, .history_size = 6});
    };
    options.max_steps = 50;
    Trainer trainer(bare(Precision::float64, options));
    const auto model = trainer.fit(std::make_shared<Perceptron>(reference_, torch::kFloat64, make),
                                   batches_of(reference_, torch::kFloat64, 64));
    expect_losses(model->losses, reference_, key, 1e-10);
    expect_weights(*model->net, reference_, key, 1e-10);
  }
};

TEST_F(LbfgsParity, ItsClosureIsPyTorchs) {
  compare("lbfgs", {});
}

TEST_F(LbfgsParity, EveryCallOfItsClosureClips) {
  EXPECT_GT(largest_difference(reference_.at("lbfgs.losses"), reference_.at("lbfgs_clipped.losses")), 0.01);
  compare("lbfgs_clipped", {.gradient_clip_val = 0.1, .gradient_clip_algorithm = GradientClipAlgorithm::value});
}

// --- Accumulation by epoch ---

// Losses are compared where a step is one batch, in epochs 2 to 7.
TEST_F(TrainingLoopsParity, AccumulationChangesWithTheEpoch) {
  for (const auto& type : number_types) {
    const std::string key = std::string("scheduled_accumulation.") + type.name;
    SCOPED_TRACE(key);
    using Schedule = std::map<int64_t, int64_t>;
    const auto scheduler = std::make_shared<GradientAccumulationScheduler>(Schedule{{0, 4}, {2, 1}, {8, 3}});
    Trainer trainer(bare(type.precision, {.max_epochs = 13, .callbacks = {scheduler}}));
    const auto make = [](std::vector<torch::Tensor> parameters) -> Optimizers {
      return optim::sgd(std::move(parameters), {.lr = 0.1, .momentum = 0.9});
    };
    const auto model =
        trainer.fit(std::make_shared<Perceptron>(reference_, type.type, make), batches_of(reference_, type.type, 8));
    EXPECT_EQ(trainer.global_step(), 50);
    const auto ours = torch::stack(model->losses).slice(0, 12, 48);
    expect_close(ours, reference_.at(key + ".losses").slice(0, 4, 40), type.tolerance, key + ".losses");
    expect_weights(*model->net, reference_, key, type.tolerance);
  }
}

// --- Averaged weights ---

class Normed : public Module {
 public:
  Normed(const Tensors& reference, torch::ScalarType type) {
    net = register_module("net", nn::Sequential(nn::Linear(nn::LinearOptions(6, 9).bias(false)), nn::BatchNorm1d(9),
                                                nn::Tanh(), nn::Linear(9, 3)));
    set_floating_type(*net, type);
    start_from(*net, reference, "averaged.start.");
  }
  StepOutput training_step(const Batch& batch, int64_t) override {
    const auto loss = torch::mse_loss(net->forward(batch[0]), batch[1]);
    losses.push_back(loss.detach());
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    val_losses.push_back(torch::mse_loss(net->forward(batch[0]), batch[1]));
    return {};
  }
  Optimizers configure_optimizers() override { return optim::sgd(parameters(), {.lr = 0.1, .momentum = 0.9}); }

  nn::Sequential net{nullptr};
  std::vector<torch::Tensor> losses, val_losses;
};

TEST_F(TrainingLoopsParity, AveragedWeightsAreThoseOfAveragedModel) {
  const std::map<std::string, WeightAveragingOptions> cases = {
      {"ema", {.decay = 0.9}},
      {"ema_sparse", {.decay = 0.8, .update_every_n_steps = 3, .update_starting_at_step = 9}},
      {"swa", {.update_every_n_steps = 0, .update_starting_at_epoch = 3}},
      {"swa_without_buffers", {.update_every_n_steps = 0, .update_starting_at_epoch = 3, .use_buffers = false}}};
  for (const auto& [name, options] : cases) {
    for (const auto& type : number_types) {
      const auto key = name + "." + type.name;
      SCOPED_TRACE(key);
      Trainer trainer(
          bare(type.precision, {.max_epochs = 9, .callbacks = {std::make_shared<WeightAveraging>(options)}}));
      const auto model =
          trainer.fit(std::make_shared<Normed>(reference_, type.type), batches_of(reference_, type.type, 8),
                      batches_of(reference_, type.type, 64, -1, ".val"));
      expect_losses(model->losses, reference_, key, type.tolerance);
      expect_close(torch::stack(model->val_losses), reference_.at(key + ".val_loss"), type.tolerance,
                   key + ".val_loss");
      expect_weights(*model->net, reference_, key, type.tolerance, "averaged.start.");
    }
  }
}

}  // namespace
}  // namespace troupe
