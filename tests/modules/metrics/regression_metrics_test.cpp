// R2Score and aggregators.
#include "tests/modules/metrics/any_cut.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/r2_score.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <memory>

namespace troupe::metrics {
namespace {

using ::testing::HasSubstr;

TEST(R2Score, NeedsTwoSamples) {
  R2Score score;
  EXPECT_TRUE(std::isnan(score(torch::ones({1}), torch::ones({1})).item<double>()));
  EXPECT_EQ(refusal([&] { score.compute(); }), "R2Score needs at least two samples, there are 1");
  EXPECT_THAT(refusal([&] {
                score.update(torch::ones({4, 2}), torch::ones({4, 2}));
              }),
              HasSubstr("after batches with outputs of shape []"));
  score.update(torch::zeros({1}), torch::zeros({1}));
  EXPECT_EQ(score.compute().item<double>(), 1);
}

TEST(R2Score, IsThatOfScaledValues) {
  const auto make = making<R2Score>(R2ScoreOptions{});
  const auto target = torch::tensor({0.001, 0.002, 0.003}, torch::kDouble);
  for (const double scale : {1e-60, 1e-9, 1.0, 1e3, 1e60}) {
    EXPECT_NEAR(value_of_any_cut(make, scale * target.flip(0), scale * target).item<double>(), -3, 1e-9) << scale;
  }
  EXPECT_NEAR(value_of_any_cut(make, torch::full({3}, 0.5), target).item<double>(), -372006, 1e-3);
}

TEST(R2Score, OfConstantTargetsIsOneOrNothing) {
  const auto make = making<R2Score>(R2ScoreOptions{});
  const auto flat = torch::full({5}, 0.1, torch::kDouble);  // sums of which are not exact
  EXPECT_EQ(value_of_any_cut(make, flat, flat).item<double>(), 1);
  EXPECT_EQ(value_of_any_cut(make, flat + 1e-9, flat).item<double>(), 0);
  // Beside a number that is large, a spread that its square cannot show.
  const auto far = 1e12 + torch::tensor({0.0, 1e-3}, torch::kDouble);
  EXPECT_EQ(value_of_any_cut(make, far, far).item<double>(), 1);
  EXPECT_NEAR(value_of_any_cut(make, far.flip(0), far).item<double>(), -3, 1e-9);
  const auto weighted = making<R2Score>(R2ScoreOptions{.multioutput = Multioutput::variance_weighted});
  EXPECT_EQ(value_of_any_cut(weighted, torch::ones({3, 2}), torch::ones({3, 2})).item<double>(), 1);
}

TEST(R2Score, OfNanIsNan) {
  const auto make = making<R2Score>(R2ScoreOptions{});
  const auto varied = torch::tensor({1.0, 2.0, 3.0}), nans = torch::full({3}, nan), flat = torch::ones({3});
  for (const auto& target : {varied, flat, nans}) {
    EXPECT_TRUE(std::isnan(value_of_any_cut(make, nans, target).item<double>()));
  }
  EXPECT_TRUE(std::isnan(value_of_any_cut(make, varied, nans).item<double>()));
}

TEST(Aggregators, TreatNanAsTheyAreTold) {
  const auto values = torch::tensor({1.0, nan, 3.0});
  MeanMetric warns, lets_through({.nan_strategy = NanStrategy::disable});
  warns.update(values);
  EXPECT_EQ(warns.compute().item<double>(), 2);
  EXPECT_EQ(warns.warning(), "MeanMetric left out values that are nan");
  lets_through.update(values, torch::tensor({1.0, 1.0, 2.0}));
  EXPECT_TRUE(std::isnan(lets_through.compute().item<double>()));
  MaxMetric refuses({.nan_strategy = NanStrategy::error});
  EXPECT_THAT(refusal([&] { refuses.update(values); }), HasSubstr("MaxMetric: a value or weight is nan"));
  EXPECT_THAT(refusal([&] { warns.update(values, torch::ones({2})); }),
              HasSubstr("weight is of shape [2] and value of shape [3]"));
  MinMetric none;
  none.update(torch::empty({0}));
  EXPECT_EQ(none.compute().item<double>(), std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace troupe::metrics
