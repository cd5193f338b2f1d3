// Kernels with packed weights, held against LibTorch's in float64.
#include "troupe/runtime/inference/packed_convolutions.hpp"
#include "troupe/runtime/inference/packed_linear.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <vector>

namespace troupe::inference {
namespace {

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kDouble) - b).abs().max().item<double>();
}

TEST(PackedLinear, ComputesTheProductsOfAnyShape) {
  for (const auto& [outputs, inputs] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {3, 5}, {10, 16}, {16, 784}, {17, 300}, {64, 129}, {130, 257}}) {
    const auto weight = torch::randn({outputs, inputs}), bias = torch::randn({outputs});
    const PackedLinear packed(weight.const_data_ptr<float>(), bias.const_data_ptr<float>(), outputs, inputs);
    for (const int64_t rows : {1, 2, 5, 9, 13, 32, 49, 100}) {
      const auto x = torch::randn({rows, inputs});
      const auto expected =
          torch::nn::functional::linear(x.to(torch::kDouble), weight.to(torch::kDouble), bias.to(torch::kDouble));
      for (const bool has_relu : {false, true}) {
        auto y = torch::full({rows, outputs}, 7.0F);
        packed.run(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), rows, has_relu);
        EXPECT_LT(distance(y, has_relu ? expected.relu() : expected), 1e-4) << outputs << " " << inputs << " " << rows;
      }
    }
  }
}

TEST(PackedConvolutions, ComputeChainsOfAnyShape) {
  namespace F = torch::nn::functional;
  const std::vector<Convolution> chain = {
      {.in_channels = 3, .out_channels = 5, .in = {11, 13}, .kernel = {3, 2}, .padding = {0, 2}, .dilation = {2, 1}},
      {.in_channels = 5,
       .out_channels = 40,
       .in = {7, 16},
       .kernel = {3, 3},
       .padding = {1, 1},
       .has_relu = true,
       .has_pool = true},
      {.in_channels = 40, .out_channels = 17, .in = {3, 8}, .kernel = {1, 4}, .has_pool = true}};
  for (std::size_t length = 1; length <= chain.size(); ++length) {
    PackedConvolutions packed;
    auto x = torch::randn({3, 3, 11, 13});
    auto expected = x.to(torch::kDouble);
    for (std::size_t i = 0; i < length; ++i) {
      const auto& c = chain[i];
      const auto weight = 0.2 * torch::randn({c.out_channels, c.in_channels, c.kernel[0], c.kernel[1]});
      const auto bias = torch::randn({c.out_channels});
      packed.append(c, weight.const_data_ptr<float>(), bias.const_data_ptr<float>());
      expected = F::conv2d(expected, weight.to(torch::kDouble),
                           F::Conv2dFuncOptions()
                               .bias(bias.to(torch::kDouble))
                               .padding({c.padding[0], c.padding[1]})
                               .dilation({c.dilation[0], c.dilation[1]}));
      if (c.has_relu) expected = expected.relu();
      if (c.has_pool) expected = torch::max_pool2d(expected, 2);
    }
    auto y = torch::full(expected.sizes(), 7.0F);
    const auto scratch = packed.scratch();
    for (int round = 0; round < 2; ++round) {
      packed.run(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), 3, scratch);
      EXPECT_LT(distance(y, expected), 1e-4) << length;
    }
  }
}

}  // namespace
}  // namespace troupe::inference
