// Adapters: what they refuse, and runs that train and save them alone.
#include "tests/support/lines.hpp"
#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>

#include <algorithm>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Layers : torch::nn::Module {
  Layers() {
    register_module("wte", torch::nn::Embedding(4, 6));
    register_module("block", torch::nn::Sequential({{"c_attn", LoraLinear(6, 9)}, {"c_proj", LoraLinear(9, 2)}}));
    register_module("head", torch::nn::Linear(2, 2));
  }
  std::vector<std::string> trained() const {
    std::vector<std::string> names;
    for (const auto& item : named_parameters()) {
      if (item.value().requires_grad()) names.push_back(item.key());
    }
    return names;
  }
};

TEST(Lora, TrainsTheAdaptersOfTheLayersThatAreNamed) {
  Layers layers;
  EXPECT_THAT(add_lora(layers, {.layers = "*.c_attn", .r = 2}), ElementsAre("block.c_attn"));
  EXPECT_THAT(layers.trained(), ElementsAre("block.c_attn.lora_A.weight", "block.c_attn.lora_B.weight"));
  EXPECT_THAT(add_lora(layers, {.layers = "*c_proj|*.c_pr?j", .r = 2}), ElementsAre("block.c_proj"));
  EXPECT_EQ(layers.trained().size(), 4u);
}

TEST(Lora, RefusesWhatCannotTakeAnAdapterAndChangesNothing) {
  Layers layers;
  const auto said = [&](const LoraOptions& options) { return refusal([&] { add_lora(layers, options); }); };
  EXPECT_THAT(said({.layers = "*c_atn"}), HasSubstr("lora: no layer's name fits the pattern '*c_atn'; the nearest that "
                                                    "can are block.c_attn, block.c_proj"));
  EXPECT_THAT(said({.layers = "wte"}), HasSubstr("lora: wte is of the class torch::nn::EmbeddingImpl, which takes no "
                                                 "adapter; the nearest that can are "));
  EXPECT_THAT(said({.layers = "*.c_attn|head"}), HasSubstr("head is of the class torch::nn::LinearImpl"));
  EXPECT_THAT(said({.layers = "*c_attn", .r = 0}), HasSubstr("lora: r = 0 is no rank of block.c_attn, whose weight is "
                                                             "[9, 6]; the nearest is 1"));
  EXPECT_THAT(said({.r = 3}), HasSubstr("r = 3 is no rank of block.c_proj, whose weight is [2, 9]; the nearest is 2"));
  EXPECT_THAT(said({.r = 1, .lora_alpha = 0}), HasSubstr("lora_alpha = 0.0 is not a number above 0"));
  EXPECT_THAT(said({.r = 1, .lora_dropout = 1}), HasSubstr("lora_dropout = 1.0 is not in [0, 1)"));
  EXPECT_EQ(layers.trained().size(), 7u);
  EXPECT_THAT(refusal([&] { merge_lora(layers); }), HasSubstr("lora: the module has no adapter; call add_lora first"));
  add_lora(layers, {.r = 1});
  EXPECT_THAT(said({.r = 1}), HasSubstr("block.c_attn has an adapter already"));
  torch::nn::Sequential plain(torch::nn::Linear(2, 2));
  EXPECT_THAT(refusal([&] { add_lora(*plain); }), HasSubstr("the module has no troupe::LoraLinear"));
}

TEST(Lora, IsALinearLayerWithoutAnAdapterAndWithANewOne) {
  torch::manual_seed(3);
  torch::nn::Linear plain(5, 4);
  torch::manual_seed(3);
  LoraLinear layer(5, 4);
  const auto x = torch::randn({3, 5});
  EXPECT_TRUE(torch::equal(plain(x), layer(x)));
  layer->add_adapter({.r = 2, .lora_dropout = 0.5});
  EXPECT_TRUE(torch::equal(plain(x), layer(x)));
  torch::nn::init::ones_(layer->adapter()[1]);
  EXPECT_FALSE(torch::equal(layer(x), layer(x)));  // dropout
  layer->eval();
  EXPECT_TRUE(torch::equal(layer(x), layer(x)));
  const auto copy = std::dynamic_pointer_cast<LoraLinearImpl>(layer->clone());
  EXPECT_TRUE(torch::equal(copy->forward(x), layer(x)));
  layer->train();
  layer->merge();
  EXPECT_THAT(refusal([&] { layer(x); }), HasSubstr("merged into its weight cannot be trained; call unmerge_lora"));
}

struct AdaptedOptions {
  double lr = 0.05;
  std::string weights = {};
};
TROUPE_OPTIONS(AdaptedOptions, (lr, "of SGD"), (weights, "of the base"))

class Adapted : public ModuleWith<AdaptedOptions> {
 public:
  explicit Adapted(AdaptedOptions o) : ModuleWith(std::move(o)) {
    net = register_module("net", torch::nn::Sequential(LoraLinear(1, 8), torch::nn::Tanh(), LoraLinear(8, 1)));
    if (!options().weights.empty()) load_weights(*this, options().weights);
    add_lora(*this, {.layers = "net.0", .r = 1, .lora_alpha = 2});
  }
  torch::Tensor forward(torch::Tensor x) override { return net->forward(x); }
  StepOutput training_step(const Batch& batch, int64_t) override {
    return torch::mse_loss(forward(batch[0]), batch[1]);
  }
  Optimizers configure_optimizers() override { return optim::adamw(trainable(*this), {.lr = options().lr}); }
  torch::nn::Sequential net{nullptr};
};

std::vector<std::string> names_in(const std::string& file) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : read_any_weights(file).tensors) names.push_back(name);
  std::ranges::sort(names);
  return names;
}

TEST(Lora, ACopyIsFrozenWhereTheLayerIs) {
  torch::nn::Sequential net(LoraLinear(5, 4), torch::nn::Tanh(), LoraLinear(4, 3));
  add_lora(*net, {.layers = "0", .r = 2});
  const auto copy = net->clone();
  const auto parameters = net->named_parameters(), copies = copy->named_parameters();
  ASSERT_EQ(copies.size(), parameters.size());
  for (const auto& item : parameters) {
    EXPECT_EQ(copies[item.key()].requires_grad(), item.value().requires_grad()) << item.key();
    EXPECT_FALSE(copies[item.key()].is_same(item.value())) << item.key();
  }
}

TEST(Lora, ARunTrainsAndSavesTheAdaptersAndGoesOnToTheBit) {
  const TempDir dir;
  torch::nn::Sequential base(torch::nn::Linear(1, 8), torch::nn::Tanh(), torch::nn::Linear(8, 1));
  NamedTensors weights;
  for (const auto& [name, tensor] : named_model_tensors(*base)) weights.emplace_back("net." + name, tensor.detach());
  const auto file = (dir / "base.pth").string();
  write_pth(weights, file);
  const auto fit = [&](int64_t epochs, const RunArguments& arguments = {}) {
    auto options = quiet(dir);
    options.max_epochs = epochs;
    Trainer trainer(options);
    torch::manual_seed(1);  // the first values of the adapters
    auto module = trainer.fit(std::make_shared<Adapted>(AdaptedOptions{.weights = file}), points(), {}, arguments);
    return std::pair(module, (trainer.run_dir() / "checkpoints/last.safetensors").string());
  };
  const auto [whole, whole_last] = fit(4);
  EXPECT_TRUE(torch::equal(whole->named_parameters()["net.0.weight"], base->named_parameters()["0.weight"]));
  EXPECT_THAT(names_in(whole_last), ElementsAre("net.0.lora_A.weight", "net.0.lora_B.weight"));
  const auto [half, half_last] = fit(2);
  const auto [resumed, last] = fit(4, {.ckpt_path = half_last});
  const auto x = torch::linspace(-1, 1, 5).unsqueeze(1);
  EXPECT_FALSE(torch::allclose(whole->forward(x), half->forward(x), 0, 1e-4));
  EXPECT_TRUE(torch::equal(resumed->forward(x), whole->forward(x)));
  const auto loaded = load_from_checkpoint<Adapted>(whole_last);
  EXPECT_TRUE(torch::equal(loaded->forward(x), whole->forward(x)));

  // The merged weights are those of a model without adapters.
  NamedTensors merged;
  for (auto& [name, tensor] : merged_tensors(*whole)) merged.emplace_back(name, tensor);
  load_weights(*base, merged, {.prefix = "net."});
  EXPECT_LE(
      (base->ptr<torch::nn::LinearImpl>(2)->forward(torch::tanh(base->ptr<torch::nn::LinearImpl>(0)->forward(x))) -
       whole->forward(x))
          .abs()
          .max()
          .item<double>(),
      1e-6);
}

}  // namespace
}  // namespace troupe
