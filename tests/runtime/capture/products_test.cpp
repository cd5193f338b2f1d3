// Products by vectors of 512 bits: each number is the sum that a loop of single numbers makes in the order that is
// asked for, and what replays take of them is LibTorch's to the bit.
#include "troupe/runtime/capture/products.hpp"
#include "tests/support/same_bits.hpp"
#include "troupe/runtime/capture/product_choice.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

namespace troupe::capture {
namespace {

// One number after another.
torch::Tensor multiplied(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& start, int64_t block) {
  auto out = torch::empty({a.size(0), b.size(1)});
  const auto x = a.accessor<float, 2>(), y = b.accessor<float, 2>();
  auto to = out.accessor<float, 2>();
  for (int64_t i = 0; i < a.size(0); ++i) {
    for (int64_t j = 0; j < b.size(1); ++j) {
      float total = start.defined() ? start[j].item<float>() : 0;
      for (int64_t k = 0; k < a.size(1); k += block) {
        float sum = 0;
        for (int64_t l = k; l < std::min(k + block, a.size(1)); ++l) sum = std::fma(x[i][l], y[l][j], sum);
        total = k == 0 && !start.defined() ? sum : total + sum;
      }
      to[i][j] = total;
    }
  }
  return out;
}

MatrixProduct product_of(const torch::Tensor& a, const torch::Tensor& b) {
  return {a.size(0), b.size(1), a.size(1), a.stride(0), a.stride(1), b.stride(0), b.stride(1), b.size(1)};
}

// Numbers of different sizes, so that another order rounds otherwise.
torch::Tensor numbers(int64_t rows, int64_t columns, bool is_turned) {
  const auto made = is_turned ? torch::randn({columns, rows}).t() : torch::randn({rows, columns});
  return made * torch::exp2(torch::randint(-6, 6, {rows, 1}));
}

class MatrixProducts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!can_multiply()) GTEST_SKIP() << "this processor has no AVX-512";
    torch::set_num_threads(1);
    torch::manual_seed(5);
  }
  void TearDown() override { torch::set_num_threads(1); }
};

TEST_F(MatrixProducts, AddUpTheirTermsInTheOrderThatIsAskedFor) {
  using Shape = std::tuple<int64_t, int64_t, int64_t>;
  // Less than a vector, a whole tile, panels and what is left of each.
  const std::vector<Shape> shapes = {{1, 1, 1},   {1, 16, 3},   {5, 7, 9},    {8, 16, 30},  {6, 64, 20},
                                     {7, 65, 33}, {13, 100, 5}, {70, 10, 40}, {33, 49, 17}, {130, 3, 21}};
  for (const auto& [rows, columns, depth] : shapes) {
    for (const bool is_a_turned : {false, true}) {
      for (const bool is_b_turned : {false, true}) {
        const auto a = numbers(rows, depth, is_a_turned), b = numbers(depth, columns, is_b_turned);
        for (const auto& start : {torch::Tensor(), torch::randn({columns})}) {
          for (const int64_t block : {depth, int64_t{4}, int64_t{100}}) {
            auto out = torch::full({rows, columns}, NAN);
            std::vector<float> room;
            multiply(product_of(a, b), block, a.const_data_ptr<float>(), b.const_data_ptr<float>(),
                     start.defined() ? start.const_data_ptr<float>() : nullptr, out.mutable_data_ptr<float>(), room);
            EXPECT_TRUE(has_same_bits(out, multiplied(a, b, start, block)))
                << rows << " x " << columns << " x " << depth << ", turned " << is_a_turned << is_b_turned << ", start "
                << start.defined() << ", block " << block;
          }
        }
      }
    }
  }
}

TEST_F(MatrixProducts, AreLibTorchsToTheBit) {
  using Shape = std::tuple<int64_t, int64_t, int64_t>;  // samples, outputs, inputs of a layer
  for (const auto& [samples, outputs, inputs] : std::vector<Shape>{
           {8, 16, 784}, {32, 128, 784}, {64, 10, 512}, {256, 96, 32}, {3, 33, 100}, {1, 20, 50}, {40, 200, 1000}}) {
    const auto x = torch::randn({samples, inputs}), w = torch::randn({outputs, inputs});
    const auto bias = torch::randn({outputs}), gradient = torch::randn({samples, outputs});
    const auto expect_same = [](const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& start) {
      auto theirs = torch::empty({a.size(0), b.size(1)}), ours = torch::full_like(theirs, NAN);
      library_product(a, b, start, theirs);
      make_product(a, b, start, ours)();
      EXPECT_TRUE(has_same_bits(ours, theirs)) << a.sizes() << " x " << b.sizes() << ", start " << start.defined();
      EXPECT_TRUE(has_same_bits(theirs, start.defined() ? torch::addmm(start, a, b) : a.mm(b)));
    };
    expect_same(x, w.t(), bias);
    expect_same(x, w.t(), {});
    expect_same(gradient, w, {});
    expect_same(gradient.t(), x, {});
    expect_same(x.narrow(1, 3, inputs - 5), w.narrow(1, 5, inputs - 5).t(), bias);  // at odd places of memory
  }
}

TEST_F(MatrixProducts, OfManyMatricesAreLibTorchsToTheBit) {
  for (const auto& [count, rows, columns, depth] : std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t>>{
           {1, 20, 30, 40}, {6, 32, 32, 16}, {16, 64, 16, 200}, {3, 2, 3, 4}, {64, 50, 50, 33}}) {
    const auto a = torch::randn({count, rows, depth}), b = torch::randn({count, depth, columns});
    const auto turned_a = torch::randn({count, depth, rows}).transpose(1, 2);
    const auto turned_b = torch::randn({count, columns, depth}).transpose(1, 2);
    const auto apart = torch::randn({count, 2, depth, columns}).select(1, 1);
    for (const auto& [x, y] : std::vector<std::pair<torch::Tensor, torch::Tensor>>{
             {a, b}, {a, turned_b}, {turned_a, b}, {turned_a, turned_b}, {a, apart}}) {
      for (const int threads : {1, 2}) {
        torch::set_num_threads(threads);
        auto ours = torch::full({count, rows, columns}, NAN);
        make_product(x, y, {}, ours)();
        EXPECT_TRUE(has_same_bits(ours, x.bmm(y))) << x.sizes() << x.strides() << " x " << y.sizes() << y.strides();
      }
    }
  }
}

// Smaller ones than that are no product of MKL's in LibTorch, and bmm of a single matrix is not mm.
TEST_F(MatrixProducts, OfOneMatrixOfManyAreLibTorchsToTheBit) {
  for (const auto& [rows, columns, depth] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{4, 14, 7}, {5, 23, 3}, {9, 4, 11}, {16, 3, 8}}) {
    const auto a = torch::randn({1, rows, depth}), b = torch::randn({1, depth, columns});
    for (int i = 0; i < 20; ++i) {
      auto single = torch::empty({rows, columns}), ours = torch::empty({1, rows, columns});
      a.copy_(torch::randn(a.sizes())), b.copy_(torch::randn(b.sizes()));
      make_product(a[0], b[0], {}, single)();
      make_product(a, b, {}, ours)();
      ASSERT_TRUE(has_same_bits(single, a[0].mm(b[0]))) << rows << " x " << columns << " x " << depth;
      ASSERT_TRUE(has_same_bits(ours, a.bmm(b))) << rows << " x " << columns << " x " << depth;
    }
  }
}

// Sums of products that are too small for a number are zeros, whose signs tell what was added to what.
TEST_F(MatrixProducts, ThatVanishHaveLibTorchsZeros) {
  for (const int64_t depth : {1, 2, 3, 40, 300}) {
    for (const auto& [rows, columns] :
         std::vector<std::pair<int64_t, int64_t>>{{31, 45}, {8, 16}, {64, 32}, {16, 8}, {33, 100}}) {
      const auto a = torch::full({rows, depth}, 0x1p-100f), b = torch::full({columns, depth}, -0x1p-100f);
      for (const auto& start : {torch::Tensor(), torch::full({columns}, -0.0f)}) {
        auto ours = torch::empty({rows, columns});
        make_product(a, b.t(), start, ours)();
        EXPECT_TRUE(has_same_bits(ours, start.defined() ? torch::addmm(start, a, b.t()) : a.mm(b.t())))
            << rows << " x " << columns << " x " << depth << ", start " << start.defined();
      }
    }
  }
}

TEST_F(MatrixProducts, HaveThePrecisionThatIsSet) {
  const auto x = torch::randn({64, 600}), w = torch::randn({300, 600});
  auto ours = torch::empty({64, 300}), changed = torch::empty({64, 300});
  const auto before = make_product(x, w.t(), {}, changed);
  struct Restored {
    ~Restored() { at::globalContext().setFloat32MatmulPrecision("highest"); }
  } restored;
  at::globalContext().setFloat32MatmulPrecision("medium");
  make_product(x, w.t(), {}, ours)();
  before();
  EXPECT_TRUE(has_same_bits(ours, x.mm(w.t())));
  EXPECT_TRUE(has_same_bits(changed, x.mm(w.t())));
}

TEST_F(MatrixProducts, HaveTheSameBitsByTwoThreads) {
  const auto x = torch::randn({64, 600}), w = torch::randn({300, 600}), bias = torch::randn({300});
  auto alone = torch::empty({64, 300}), together = torch::empty({64, 300}), changed = torch::empty({64, 300});
  const auto by_one = make_product(x, w.t(), bias, changed);
  make_product(x, w.t(), bias, alone)();
  torch::set_num_threads(2);
  make_product(x, w.t(), bias, together)();
  by_one();  // with another number of threads than it was made for
  EXPECT_TRUE(has_same_bits(together, torch::addmm(bias, x, w.t())));
  EXPECT_TRUE(has_same_bits(changed, torch::addmm(bias, x, w.t())));
  torch::set_num_threads(1);
  EXPECT_TRUE(has_same_bits(alone, torch::addmm(bias, x, w.t())));
}

// LibTorch sets it for the calling thread, so that which thread computes a number shows in its bits.
TEST_F(MatrixProducts, AreLibTorchsIfDenormalNumbersAreZero) {
  const auto small = [](at::IntArrayRef sizes) { return torch::randn(sizes) * 0x1p-70f; };
  for (const int threads : {1, 2}) {
    torch::set_num_threads(threads);
    for (const auto& [rows, columns, depth] :
         std::vector<std::tuple<int64_t, int64_t, int64_t>>{{64, 512, 784}, {48, 1000, 200}, {33, 77, 100}}) {
      const auto a = small({rows, depth}), b = small({depth, columns});
      auto theirs = torch::empty({rows, columns}), before = torch::empty({rows, columns});
      auto within = torch::empty({rows, columns});
      const auto made_before = make_product(a, b, {}, before);
      at::globalContext().setFlushDenormal(true);
      make_product(a, b, {}, within)();
      made_before();
      library_product(a, b, {}, theirs);
      at::globalContext().setFlushDenormal(false);
      EXPECT_TRUE(has_same_bits(within, theirs)) << rows << " x " << columns << ", threads " << threads;
      EXPECT_TRUE(has_same_bits(before, theirs)) << rows << " x " << columns << ", threads " << threads;
    }
  }
}

TEST_F(MatrixProducts, OfLargeGapsOrEmptyOnesAreLibTorchs) {
  const MatrixProduct plain{64, 64, 64, 64, 1, 64, 1, 64};
  MatrixProduct sparse = plain, empty = plain, huge = plain;
  sparse.a_row = 100'000;
  empty.depth = 0;
  huge.rows = huge.columns = huge.depth = huge.a_row = huge.b_step = huge.out_row = 4096;
  for (const auto& product : {sparse, empty, huge}) EXPECT_FALSE(faster_summation({product}, false).has_value());
}

}  // namespace
}  // namespace troupe::capture
