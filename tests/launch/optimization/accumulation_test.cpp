// Accumulated gradients in whole runs, held against large batches.
#include "tests/launch/optimization/optimization.hpp"

namespace troupe {
namespace {

// The weights after steps of whole windows: batches of `size` joined `window` by `window` within an epoch.
TwoLayers with_large_batches(const Data& data, int64_t size, int64_t epochs) {
  TwoLayers expected;
  torch::optim::SGD optimizer(expected.parameters(), 0.1);
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    for (int64_t i = 0; i * size < 40; ++i) {
      const auto [x, y] = data.batch(i, size);
      expected.zero_grad();
      expected.error(x, y).backward();
      optimizer.step();
    }
  }
  return expected;
}

TEST_F(Optimization, AccumulationIsExactWhereTheLastWindowIsShort) {
  // 7 + 7 + 7 | 7 + 7 + 5: the last batch is short; 9 + 9 | 9 + 9 | 4: so is the last window.
  expect_equal(*fit(std::make_shared<TwoLayers>(), 7, {.accumulate_grad_batches = 3}), with_large_batches(data_, 21, 2),
               1e-12);
  expect_equal(*fit(std::make_shared<TwoLayers>(), 9, {.accumulate_grad_batches = 2}), with_large_batches(data_, 18, 2),
               1e-12);
}

TEST_F(Optimization, LightningsWayOfAccumulatingIsThere) {
  const auto model =
      fit(std::make_shared<TwoLayers>(), 9,
          {.max_epochs = 1, .accumulate_grad_batches = 2, .accumulate_grad_weighting = GradWeighting::batches});
  TwoLayers expected;
  torch::optim::SGD optimizer(expected.parameters(), 0.1);
  expected.zero_grad();
  for (int64_t i = 0; i < 5; ++i) {
    const auto [x, y] = data_.batch(i, 9);
    (expected.error(x, y) / 2).backward();
    if (i % 2 == 0 && i != 4) continue;
    optimizer.step();
    expected.zero_grad();
  }
  expect_equal(*model, expected, 1e-12);
}

TEST_F(Optimization, ClippingComesAfterTheWindowIsWhole) {
  const auto model =
      fit(std::make_shared<TwoLayers>(), 9, {.max_epochs = 1, .accumulate_grad_batches = 2, .gradient_clip_val = 0.5});
  TwoLayers expected;
  torch::optim::SGD optimizer(expected.parameters(), 0.1);
  for (int64_t i = 0; i < 3; ++i) {
    const auto [x, y] = data_.batch(i, 18);
    expected.zero_grad();
    expected.error(x, y).backward();
    torch::nn::utils::clip_grad_norm_(expected.parameters(), 0.5);
    optimizer.step();
  }
  expect_equal(*model, expected, 1e-12);
}

}  // namespace
}  // namespace troupe
