// What a module becomes as TorchScript, besides its outputs (exported_models_test).
#include "tests/runtime/export/export_cases.hpp"
#include "tests/runtime/export/model_cases.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/precision/autocast.hpp"

#include <gtest/gtest.h>
#include <torch/script.h>

#include <map>
#include <optional>

namespace troupe {
namespace {

std::map<std::string, torch::Tensor> tensors_of(const torch::jit::Module& module) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : module.named_parameters()) out.emplace(item.name, item.value);
  for (const auto& item : module.named_buffers()) out.emplace(item.name, item.value);
  return out;
}

TEST(Torchscript, HasTheModulesNamesAndWeights) {
  Gan gan{GanOptions{}};
  const TempDir dir;
  gan.to_torchscript(dir / "gan.pt", torch::zeros({1, 64}));
  const auto loaded = tensors_of(torch::jit::load((dir / "gan.pt").string()));
  std::size_t count = 0;
  const auto compare = [&](const auto& items) {
    for (const auto& item : items) {
      ++count;
      ASSERT_TRUE(loaded.contains(item.key())) << item.key();
      EXPECT_TRUE(torch::equal(loaded.at(item.key()), item.value())) << item.key();
    }
  };
  compare(gan.named_parameters());
  compare(gan.named_buffers());
  EXPECT_EQ(loaded.size(), count);
}

TEST(Torchscript, KeepsTiedWeightsTied) {
  TinyGpt gpt;
  const TempDir dir;
  const auto module = gpt.to_torchscript(dir / "gpt.pt", tokens(2, 8)[0]);
  EXPECT_TRUE(tensors_of(module).at("head").is_same(gpt.named_parameters()["tokens.weight"]));
  const auto loaded = tensors_of(torch::jit::load((dir / "gpt.pt").string()));
  EXPECT_EQ(loaded.at("tokens.weight").data_ptr(), loaded.at("head").data_ptr());
}

TEST(Torchscript, LeavesTheModuleInItsModesAndTheRandomNumbersWhereTheyWere) {
  const auto digits = std::make_shared<Digits>(DigitsOptions{});
  digits->train();
  const auto layer = digits->named_modules()["net.1"], other = digits->named_modules()["net.9"];
  layer->eval();
  torch::manual_seed(5);
  const auto expected = torch::rand({3});
  torch::manual_seed(5);
  EXPECT_FALSE(digits->to_torchscript().is_training());
  EXPECT_TRUE(torch::equal(torch::rand({3}), expected));
  EXPECT_TRUE(digits->is_training());
  EXPECT_TRUE(other->is_training());
  EXPECT_FALSE(layer->is_training());
}

TEST(Torchscript, ReturnsAModuleThatSharesTheWeights) {
  auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
  Net net([layer](const torch::Tensor& x) { return layer->forward(x); }, {layer});
  auto module = net.to_torchscript({}, torch::zeros({1, 2}));
  {
    const torch::NoGradGuard no_grad;
    layer->weight.fill_(2);
    layer->bias.fill_(1);
  }
  EXPECT_EQ(module.forward({torch::ones({3, 2})}).toTensor().sum().item<float>(), 15);
}

TEST(Torchscript, ExportsAFrozenModuleAndOneWithoutWeights) {
  Digits digits{DigitsOptions{}};
  digits.freeze();
  auto module = digits.to_torchscript();
  EXPECT_EQ(module.forward({torch::zeros({4, 1, 28, 28})}).toTensor().sizes(), (std::vector<int64_t>{4, 10}));
  for (const torch::Tensor& parameter : module.parameters()) EXPECT_FALSE(parameter.requires_grad());
  Net empty([](const torch::Tensor& x) { return x + 1; });
  EXPECT_EQ(empty.to_torchscript({}, torch::zeros({2})).forward({torch::ones({3})}).toTensor().sum().item<float>(), 6);
}

TEST(Torchscript, TakesAnyNumberOfTensors) {
  TwoTowers towers;
  auto module = towers.to_torchscript(
      {}, {torch::randn({2, 3, 4}), torch::randn({2, 3, 5})},
      {.input_names = {"a", "b"}, .forward = [&](const Tensors& in) { return towers.compare(in[0], in[1]); }});
  const auto outputs = module.forward({torch::randn({5, 3, 4}), torch::randn({5, 3, 5})}).toTuple();
  EXPECT_EQ(outputs->elements().size(), 2U);
  EXPECT_EQ(module.get_method("forward").function().getSchema().arguments()[2].name(), "b");
}

TEST(Torchscript, RunsInTheTypeOfTheWeightsWithinAnAutocastToo) {
  auto layer = std::make_shared<torch::nn::LinearImpl>(2, 1);
  Net net([layer](const torch::Tensor& x) { return layer->forward(x); }, {layer});
  std::optional<torch::jit::Module> module;
  {
    const Autocast autocast(Precision::bfloat16_mixed, torch::kCPU);
    module = net.to_torchscript({}, torch::zeros({1, 2}));
  }
  EXPECT_EQ(module->forward({torch::ones({3, 2})}).toTensor().scalar_type(), torch::kFloat);
}

}  // namespace
}  // namespace troupe
