// Kernels that replays have of their own, against LibTorch's: equal to the bit.
#include "tests/support/same_bits.hpp"
#include "troupe/runtime/capture/program.hpp"
#include "troupe/runtime/capture/recording.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

namespace troupe::capture {
namespace {

using Tensors = std::vector<torch::Tensor>;
using ReplayedFunction = std::function<Tensors(const torch::Tensor&)>;

// NaN, infinities, zeros of both signs and ties among random numbers.
torch::Tensor awkward_numbers(torch::IntArrayRef sizes) {
  auto x = torch::randn(sizes);
  auto flat = x.view(-1);
  const std::vector<float> special = {std::nanf(""), INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, 1.0f, 1e-42f};
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const auto pick = torch::randint(40, {1}).item<int64_t>();
    if (pick < static_cast<int64_t>(special.size())) flat[i] = special[static_cast<std::size_t>(pick)];
  }
  return x;
}

// Replays with other inputs than those of the recording, and what they draw.
void expect_replayed(const ReplayedFunction& compute, torch::IntArrayRef sizes, const std::string& kernel) {
  auto input = awkward_numbers(sizes);
  Recorder recorder;
  recorder.give("input", input);
  ProgramRequest request;
  {
    const torch::NoGradGuard no_gradients;
    Tensors first;
    {
      const Recorded recorded(&recorder);
      first = compute(input);
    }
    for (const auto& result : first) request.results.push_back(*recorder.view_of(result));
  }
  const Recording recording = recorder.take();
  ASSERT_EQ(recording.refusal, "");
  Program program(recording, request);
  const std::string text = program.to_text();
  EXPECT_NE(text.find(kernel), std::string::npos) << text;
  EXPECT_NE(text.find("a kernel of Troupe's"), std::string::npos) << text;
  auto generator = at::globalContext().defaultGenerator(torch::kCPU);
  for (int round = 0; round < 3; ++round) {
    input.copy_(awkward_numbers(sizes));
    const auto state = generator.get_state();
    const auto expected = compute(input);
    const auto after = generator.get_state();
    generator.set_state(state);
    program.run(0);
    EXPECT_TRUE(has_same_bits(generator.get_state(), after)) << "another state of the generator: " << kernel;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(has_same_bits(program.results()[i], expected[i])) << kernel << " of " << sizes << ", result " << i;
    }
  }
}

class Substitutes : public ::testing::Test {
 protected:
  void SetUp() override {
    torch::set_num_threads(1);  // sums that several threads divide have LibTorch's kernel
    torch::manual_seed(4);
  }
};

TEST_F(Substitutes, PoolLikeLibTorch) {
  using Windows = std::tuple<int64_t, int64_t, int64_t, int64_t, bool>;  // size, stride, padding, dilation, ceil_mode
  const std::vector<Windows> windows = {{2, 2, 0, 1, false}, {2, 2, 0, 1, true}, {3, 2, 1, 1, false},
                                        {3, 1, 1, 2, false}, {2, 3, 0, 1, true}, {5, 2, 2, 1, true}};
  const std::vector<std::vector<int64_t>> shapes = {{2, 3, 8, 8},   {1, 2, 9, 11},   {4, 7, 13},
                                                    {3, 1, 33, 70}, {30, 2, 14, 14}, {2, 2, 32, 32}};
  for (const auto& [size, stride, padding, dilation, ceil] : windows) {
    for (const auto& shape : shapes) {
      const auto pool = [=](const torch::Tensor& x) {
        const auto [out, indices] = at::max_pool2d_with_indices(x, {size, size}, {stride, stride}, {padding, padding},
                                                                {dilation, dilation}, ceil);
        return Tensors{out, indices};
      };
      expect_replayed(pool, shape, "max_pool2d_with_indices");
    }
  }
}

TEST_F(Substitutes, DrawWhatLibTorchDraws) {
  for (const double p : {0.0, 0.1, 0.25, 0.5, 0.9, 0.999999, 1.0}) {
    for (const int64_t size : {1, 2, 311, 312, 313, 623, 5000}) {
      const auto draw = [=](const torch::Tensor& x) {
        return Tensors{torch::empty_like(x).bernoulli_(p) * x, torch::rand({3})};
      };
      expect_replayed(draw, {size}, "bernoulli_");
    }
  }
}

TEST_F(Substitutes, DrawInTheOrderOfMemory) {
  const auto draw = [](const torch::Tensor& x) {
    return Tensors{torch::empty_like(x.permute({2, 0, 1})).bernoulli_(0.3)};
  };
  expect_replayed(draw, {5, 6, 7}, "bernoulli_");
}

TEST_F(Substitutes, DrawOnFromAnOddPlaceOfTheEngine) {
  const auto draw = [](const torch::Tensor& x) {
    const auto before = torch::rand({1});  // one number of the engine
    return Tensors{torch::empty_like(x).bernoulli_(0.3), before};
  };
  for (const int64_t size : {1, 311, 2000}) expect_replayed(draw, {size}, "bernoulli_");
}

TEST_F(Substitutes, TreatElementsLikeLibTorch) {
  for (const auto& shape : std::vector<std::vector<int64_t>>{{1}, {7}, {16}, {33, 5}, {1000}}) {
    expect_replayed([](const torch::Tensor& x) { return Tensors{torch::relu(x)}; }, shape, "relu");
    expect_replayed([](const torch::Tensor& x) { return Tensors{x * 1.7}; }, shape, "mul.Scalar");
    expect_replayed([](const torch::Tensor& x) { return Tensors{x / 3}; }, shape, "div.Scalar");
    expect_replayed([](const torch::Tensor& x) { return Tensors{x + 0.3}; }, shape, "add.Scalar");
    expect_replayed([](const torch::Tensor& x) { return Tensors{x - 2}; }, shape, "sub.Scalar");
    expect_replayed([](const torch::Tensor& x) { return Tensors{x.isnan() * 2 + 1.5}; }, shape, "mul.Scalar");
  }
}

TEST_F(Substitutes, AddUpRowsInLibTorchsOrder) {
  const auto finite = [](const torch::Tensor& x) { return x.nan_to_num(0, 1, 1); };
  for (const int64_t rows : {2, 3, 4, 5, 8, 15, 16, 17, 64, 100, 300}) {
    for (const int64_t columns : {2, 3, 5, 7, 8, 10, 14, 21, 28, 31, 32, 40, 128, 150}) {
      expect_replayed([&](const torch::Tensor& x) { return Tensors{finite(x).sum({0}, true)}; }, {rows, columns},
                      "sum.dim");
    }
  }
  expect_replayed(
      [&](const torch::Tensor& x) {
        return Tensors{finite(x).sum(at::IntArrayRef({0, 1}))};
      },
      {8, 32, 48}, "sum.dim");
}

TEST_F(Substitutes, MultiplyLikeLibTorch) {
  const auto w = torch::randn({12, 20}), bias = torch::randn({12});
  // Of two NaNs a product passes on either.
  const auto plain = [](const torch::Tensor& x) { return torch::where(x.isnan(), NAN, x); };
  const auto layer = [&](const torch::Tensor& x) { return Tensors{plain(torch::addmm(bias, x, w.t()))}; };
  const auto products = [&](const torch::Tensor& x) {
    return Tensors{plain(x.mm(w.t())), plain(x.t().mm(x)), plain(x.mm(x.t()))};
  };
  for (const int64_t rows : {1, 3, 8, 64}) {
    expect_replayed(layer, {rows, 20}, "addmm");
    expect_replayed(products, {rows, 20}, "aten::mm");
  }
}

TEST_F(Substitutes, MoveAndAddUpTensorsLikeLibTorch) {
  const auto transposed = [](const torch::Tensor& x) {
    return Tensors{x.transpose(0, 1).clone(torch::MemoryFormat::Contiguous)};
  };
  expect_replayed(transposed, {5, 9}, "clone");
  expect_replayed([](const torch::Tensor& x) { return Tensors{x.clone()}; }, {5, 9}, "clone");
  const auto through_bfloat16 = [](const torch::Tensor& x) {
    return Tensors{x.to(torch::kBFloat16).to(torch::kFloat32)};
  };
  expect_replayed(through_bfloat16, {77}, "_to_copy");
  expect_replayed([](const torch::Tensor& x) { return Tensors{x.nan_to_num(0, 1, 1).sum()}; }, {3, 1001}, "sum");
  const auto rows = [](const torch::Tensor& x) {
    const auto indices = x.select(1, 0).nan_to_num(0, 1, 1).abs().to(torch::kLong).remainder(7).contiguous();
    return Tensors{torch::embedding(x, indices)};
  };
  expect_replayed(rows, {7, 5}, "embedding");
}

}  // namespace
}  // namespace troupe::capture
