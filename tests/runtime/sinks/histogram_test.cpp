#include "troupe/runtime/sinks/histogram.hpp"

#include "troupe/base/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <numeric>

namespace troupe {
namespace {

double total(const std::vector<double>& counts) {
  return std::accumulate(counts.begin(), counts.end(), 0.0);
}

TEST(Histogram, CountsEveryValueOnceBetweenSmallestAndLargest) {
  auto histogram = make_histogram(torch::arange(0, 300).reshape({3, 100}));
  ASSERT_EQ(histogram.bucket.size(), 31u);
  EXPECT_EQ(histogram.bucket.front(), 0);
  EXPECT_EQ(histogram.bucket_limit.front(), 0);
  EXPECT_EQ(histogram.bucket_limit.back(), 299);
  EXPECT_EQ(histogram.bucket[1], 10);
  EXPECT_EQ(total(histogram.bucket), 300);
  EXPECT_EQ(histogram.sum, 299 * 300 / 2);
}

TEST(Histogram, OfEqualValuesHasOneBucket) {
  auto histogram = make_histogram(torch::full({7}, 2.5));
  EXPECT_EQ(histogram.bucket, (std::vector<double>{0, 7}));
  EXPECT_EQ(histogram.bucket_limit, (std::vector<double>{2.5, 2.5}));
}

TEST(Histogram, LeavesOutWhatIsNotFinite) {
  float inf = std::numeric_limits<float>::infinity();
  auto histogram = make_histogram(torch::tensor({1.0f, std::nanf(""), inf, -inf, 2.0f}));
  EXPECT_EQ(histogram.count, 2);
  EXPECT_EQ(histogram.max, 2);
  EXPECT_EQ(total(histogram.bucket), 2);
}

TEST(Histogram, OfNothingIsEmpty) {
  EXPECT_EQ(make_histogram(torch::zeros({0})).count, 0);
  EXPECT_TRUE(make_histogram(torch::full({3}, std::nan(""))).bucket.empty());
}

TEST(Histogram, HoldsTheWholeRangeOfDoubles) {
  double largest = std::numeric_limits<double>::max();
  auto histogram = make_histogram(torch::tensor({-largest, 0.0, largest}, torch::kFloat64));
  EXPECT_EQ(total(histogram.bucket), 3);
  for (double limit : histogram.bucket_limit) EXPECT_TRUE(std::isfinite(limit));
}

TEST(Histogram, TakesIntegersBooleansAndHalves) {
  EXPECT_EQ(make_histogram(torch::tensor({true, false, true})).sum, 2);
  EXPECT_EQ(make_histogram(torch::ones({4}, torch::kHalf)).sum, 4);
}

TEST(Histogram, RefusesUndefinedAndComplexTensors) {
  EXPECT_THROW(make_histogram(torch::Tensor()), UsageError);
  EXPECT_THROW(make_histogram(torch::ones({2}, torch::kComplexFloat)), UsageError);
}

}  // namespace
}  // namespace troupe
