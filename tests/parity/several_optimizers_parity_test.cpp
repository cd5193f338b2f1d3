// 50 batches of a GAN with two optimizers against a PyTorch loop written by hand: both see every batch, they take
// turns, or training_step does it all. Losses and weights to 1e-10 in float64, to 1e-5 in float32.
#include "tests/parity/parity.hpp"

namespace troupe {
namespace {

namespace nn = torch::nn;

class Gan : public Module {
 public:
  Gan(const Tensors& reference, torch::ScalarType type) {
    generator = register_module("generator", nn::Sequential(nn::Linear(4, 8), nn::Tanh(), nn::Linear(8, 6)));
    discriminator = register_module(
        "discriminator",
        nn::Sequential(nn::Linear(6, 8), nn::LeakyReLU(nn::LeakyReLUOptions().negative_slope(0.2)), nn::Linear(8, 1)));
    set_floating_type(*this, type);
    start_from(*this, reference);
  }
  std::vector<torch::Tensor> losses;

 protected:
  OptimizerPtr of_generator() { return optim::adam(generator->parameters(), {.lr = 0.01, .betas = {0.5, 0.999}}); }
  OptimizerPtr of_discriminator() { return optim::sgd(discriminator->parameters(), {.lr = 0.05, .momentum = 0.5}); }
  torch::Tensor generator_loss(const Batch& batch) { return kept(against(1, generator->forward(batch[1]))); }
  torch::Tensor discriminator_loss(const Batch& batch) {
    const auto fake = generator->forward(batch[1]).detach();
    return kept((against(1, batch[0]) + against(0, fake)) / 2);
  }

 private:
  torch::Tensor against(double real, const torch::Tensor& images) {
    const auto scores = discriminator->forward(images);
    return torch::binary_cross_entropy_with_logits(scores, torch::full_like(scores, real));
  }
  torch::Tensor kept(torch::Tensor loss) {
    losses.push_back(loss.detach());
    return loss;
  }
  nn::Sequential generator{nullptr}, discriminator{nullptr};
};

class Automatic : public Gan {
 public:
  using Gan::Gan;
  StepOutput training_step(const Batch& batch, int64_t, int64_t optimizer_idx) override {
    return optimizer_idx == 0 ? generator_loss(batch) : discriminator_loss(batch);
  }
  Optimizers configure_optimizers() override { return {of_generator(), of_discriminator()}; }
};

class TakingTurns : public Automatic {
 public:
  using Automatic::Automatic;
  Optimizers configure_optimizers() override {
    return {{.optimizer = of_generator(), .frequency = 1}, {.optimizer = of_discriminator(), .frequency = 3}};
  }
};

class Manual : public Gan {
 public:
  Manual(const Tensors& reference, torch::ScalarType type) : Gan(reference, type) { automatic_optimization = false; }
  Optimizers configure_optimizers() override {
    const auto generator = of_generator();
    return {{generator, of_discriminator()}, {{.scheduler = lr_schedulers::exponential(generator, {.gamma = 0.8})}}};
  }
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    auto [generator, discriminator] = optimizers<2>();
    discriminator.zero_grad();
    manual_backward(discriminator_loss(batch));
    clip_gradients(*discriminator, 0.1);
    discriminator.step();

    const auto toggled = generator.toggle_model();
    if (batch_idx % 2 == 0) generator.zero_grad();
    manual_backward(generator_loss(batch) / 2);
    if (batch_idx % 2 == 1) generator.step();
    if (batch_idx == 5) lr_schedulers().at(0)->step();
    return {};
  }
};

class SeveralOptimizersParity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { reference_ = pytorch_reference("several_optimizers.py"); }
  static void TearDownTestSuite() { reference_.clear(); }

  template <class M>
  void compare(const std::string& name, int64_t steps) {
    for (const auto& type : number_types) {
      const auto key = name + "." + type.name;
      SCOPED_TRACE(key);
      Trainer trainer(bare(type.precision, {.max_steps = steps}));
      const auto model = trainer.fit(std::make_shared<M>(reference_, type.type), batches_of(reference_, type.type, 8));
      EXPECT_EQ(trainer.global_step(), steps);
      expect_losses(model->losses, reference_, key, type.tolerance);
      expect_weights(*model, reference_, key, type.tolerance);
    }
  }

  static Tensors reference_;
};
Tensors SeveralOptimizersParity::reference_;

TEST_F(SeveralOptimizersParity, EachSeesEveryBatch) {
  compare<Automatic>("automatic", 100);
}

TEST_F(SeveralOptimizersParity, EachHasItsBatchesInTurn) {
  compare<TakingTurns>("turns", 50);
}

TEST_F(SeveralOptimizersParity, TrainingStepDoesItByHand) {
  compare<Manual>("manual", 75);
}

}  // namespace
}  // namespace troupe
