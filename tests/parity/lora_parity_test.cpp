// 50 steps of adapters against the paper's formula in PyTorch: losses and weights to 1e-10 in float64, 1e-5 in float32.
#include "tests/parity/parity.hpp"
#include "troupe/modules/layers/lora.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(LoraParity, TrainsTheAdaptersOfTheFormula) {
  const auto reference = pytorch_reference("lora.py");
  for (const auto& type : number_types) {
    SCOPED_TRACE(type.name);
    torch::nn::Sequential net(LoraLinear(6, 9), torch::nn::Tanh(), LoraLinear(9, 3));
    net->to(type.type);
    EXPECT_EQ(add_lora(*net, {.r = 2, .lora_alpha = 6}), (std::vector<std::string>{"0", "2"}));
    start_from(*net, reference);
    const auto optimizer = optim::adamw(trainable(*net), {.lr = 0.02});
    const auto x = reference.at("x").to(type.type), y = reference.at("y").to(type.type);
    std::vector<torch::Tensor> losses;
    for (int64_t i = 0; i < x.size(0); ++i) {
      optimizer->zero_grad();
      const auto loss = torch::mse_loss(net->forward(x[i]), y[i]);
      loss.backward();
      optimizer->step();
      losses.push_back(loss.detach());
    }
    const auto key = std::string("lora.") + type.name;
    expect_losses(losses, reference, key, type.tolerance);
    for (const auto& item : net->named_parameters()) {
      expect_close(item.value(), reference.at(key + "." + item.key()), type.tolerance, key + "." + item.key());
      const double moved = largest_difference(item.value(), reference.at("start." + item.key()).to(type.type));
      const bool is_adapter = item.key().find("lora_") != std::string::npos;
      EXPECT_EQ(moved > 1e-4, is_adapter) << item.key();
    }
    // Merged: the formula's weights, and the same results to 1e-6.
    const auto before = net->forward(x[0]);
    const auto own = net->named_parameters()["0.weight"].clone();
    merge_lora(*net);
    net->eval();
    for (const char* layer : {"0", "2"}) {
      expect_close(net->named_parameters()[std::string(layer) + ".weight"], reference.at(key + ".merged." + layer),
                   type.tolerance, key + ".merged." + layer);
    }
    EXPECT_LE(largest_difference(net->forward(x[0]), before), 1e-6);
    unmerge_lora(*net);
    EXPECT_LE(largest_difference(net->named_parameters()["0.weight"], own), 1e-6);
    EXPECT_LE(largest_difference(net->forward(x[0]), before), 1e-6);
  }
}

}  // namespace
}  // namespace troupe
