// The guide's beginning: what a module is made of, and the smallest one.
#include "tests/guide/images.hpp"

using namespace troupe;
using namespace troupe::guide;
namespace F = torch::nn::functional;

namespace guide_intro {
namespace {

class Guide : public InAFolderOfItsOwn {};

// [guide:minimal_example]
class LitModel : public Module {
 public:
  LitModel() { l1_ = register_module("l1", torch::nn::Linear(28 * 28, 10)); }

  torch::Tensor forward(torch::Tensor x) override { return torch::relu(l1_(x.flatten(1))); }

  StepOutput training_step(const Batch& batch, int64_t) override {
    auto [x, y] = batch.get<2>();
    auto y_hat = forward(x);
    return F::cross_entropy(y_hat, y);
  }

  Optimizers configure_optimizers() override { return optim::adam(parameters(), {.lr = 0.02}); }

 private:
  torch::nn::Linear l1_{nullptr};
};
// [guide:end]

double loss_of(LitModel& model) {
  const auto all = mnist()->tensors();
  return F::cross_entropy(model(all[0]), all[1]).item<double>();
}

TEST_F(Guide, TheSmallestModuleLearns) {
  // [guide:minimal_training]
  DataLoader train_loader(mnist(), {.batch_size = 16, .shuffle = true});
  Trainer trainer({.max_epochs = 3});
  auto model = std::make_shared<LitModel>();

  trainer.fit(model, train_loader);
  // [guide:end]
  LitModel untrained;
  EXPECT_LT(loss_of(*model), 0.8 * loss_of(untrained));
  EXPECT_EQ(trainer.global_step(), 12);
}

TEST_F(Guide, ThreeLinesTrain) {
  using Net = LitModel;
  DataLoader train_loader = images();
  // [guide:three_lines]
  auto net = std::make_shared<Net>();
  Trainer trainer({.max_epochs = 1});
  trainer.fit(net, train_loader);
  // [guide:end]
  EXPECT_EQ(trainer.current_epoch(), 1);
  const auto path = trainer.run_dir() / "checkpoints/last.safetensors";
  const auto x = torch::ones({2, 1, 28, 28});
  const auto expected = (*net)(x);
  {
    // [guide:use_as_a_module]
    auto net = load_from_checkpoint<Net>(path);
    net->freeze();
    auto out = (*net)(x);
    // [guide:end]
    EXPECT_TRUE(torch::equal(out, expected));
    EXPECT_FALSE(out.requires_grad());
  }
}

class Noisy : public LitModel {
 public:
  // [guide:no_device_calls]
  torch::Tensor forward(torch::Tensor x) override {
    // x is where the parameters are: no .to(device) and no .cuda()
    auto new_x = torch::ones({2, 3}).type_as(x);  // and a new tensor follows one that is there
    made = new_x;                                 // [guide:hide]
    return LitModel::forward(std::move(x));       // [guide:hide]
  }
  // [guide:end]
  torch::Tensor made;
};

TEST_F(Guide, NewTensorsFollowThoseThatAreThere) {
  Noisy model;
  model.to(torch::kFloat64);
  model(torch::ones({1, 784}, torch::kFloat64));
  EXPECT_EQ(model.made.scalar_type(), torch::kFloat64);
  EXPECT_EQ(model.made.device(), model.device());
}

TEST_F(Guide, ALoaderNeedsNoSampler) {
  // [guide:no_sampler]
  DataLoader loader(mnist(), {.batch_size = 16, .shuffle = true});  // the same for one device and for many
  // [guide:end]
  EXPECT_EQ(loader.options().sampler, nullptr);
  EXPECT_EQ(loader.batch_count(), 4);
}

}  // namespace
}  // namespace guide_intro
