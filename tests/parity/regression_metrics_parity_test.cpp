// Metrics of regression against torchmetrics', and the Wasserstein distance against scipy's.
#include "tests/parity/metric_cases.hpp"
#include "troupe/modules/metrics/correlation.hpp"
#include "troupe/modules/metrics/distribution.hpp"
#include "troupe/modules/metrics/mean_error.hpp"
#include "troupe/modules/metrics/r2_score.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

MetricCases& regression_cases() {
  static MetricCases all("regression_metrics.py");
  return all;
}

const std::vector<std::pair<std::string, int64_t>> regression_data = {
    {"values", 1},   {"far", 1},     {"positive", 1}, {"zeros", 1},   {"ties", 1},
    {"constant", 1}, {"perfect", 1}, {"shifted", 1},  {"outputs", 3}, {"tied_outputs", 3}};

TEST(RegressionMetricsParity, ErrorsAsSharesAreTorchmetrics) {
  using namespace metrics;
  auto& cases = regression_cases();
  for (const auto& [data, outputs] : regression_data) {
    cases.compare_pairs<MeanAbsolutePercentageError>("MeanAbsolutePercentageError/" + data + "/",
                                                     MeanAbsolutePercentageErrorOptions{}, data);
    cases.compare_pairs<SymmetricMeanAbsolutePercentageError>("SymmetricMeanAbsolutePercentageError/" + data + "/",
                                                              SymmetricMeanAbsolutePercentageErrorOptions{}, data);
    cases.compare_pairs<WeightedMeanAbsolutePercentageError>("WeightedMeanAbsolutePercentageError/" + data + "/",
                                                             WeightedMeanAbsolutePercentageErrorOptions{}, data);
    for (const char* kind : {"uniform_average", "variance_weighted", "raw_values"}) {
      cases.compare_pairs<ExplainedVariance>("ExplainedVariance/" + data + "/" + kind,
                                             ExplainedVarianceOptions{.multioutput = named<Multioutput>(kind)}, data);
    }
  }
  cases.compare_pairs<MeanSquaredLogError>("MeanSquaredLogError/positive/", MeanSquaredLogErrorOptions{}, "positive");
}

TEST(RegressionMetricsParity, CorrelationsAreTorchmetrics) {
  using namespace metrics;
  auto& cases = regression_cases();
  for (const auto& [data, outputs] : regression_data) {
    cases.compare_pairs<PearsonCorrCoef>("PearsonCorrCoef/" + data + "/",
                                         PearsonCorrCoefOptions{.num_outputs = outputs}, data);
    cases.compare_pairs<SpearmanCorrCoef>("SpearmanCorrCoef/" + data + "/",
                                          SpearmanCorrCoefOptions{.num_outputs = outputs}, data);
    for (const std::string variant : {"a", "b", "c"}) {
      cases.compare_pairs<KendallRankCorrCoef>(
          "KendallRankCorrCoef/" + data + "/" + variant,
          KendallRankCorrCoefOptions{.variant = named<KendallVariant>(variant), .num_outputs = outputs}, data);
    }
  }
}

TEST(RegressionMetricsParity, DistancesOfDistributionsAreTorchmetricsAndScipys) {
  using namespace metrics;
  auto& cases = regression_cases();
  for (const std::string data : {"values", "ties"}) {
    cases.compare_pairs<WassersteinDistance>("WassersteinDistance/" + data + "/", WassersteinDistanceOptions{}, data);
  }
  for (const std::string reduction : {"mean", "sum", "none"}) {
    cases.compare_pairs<KLDivergence>("KLDivergence/shares/" + reduction,
                                      KLDivergenceOptions{.reduction = named<Reduction>(reduction)}, "shares");
    cases.compare_pairs<KLDivergence>("KLDivergence/outputs/" + reduction,
                                      KLDivergenceOptions{.log_prob = true, .reduction = named<Reduction>(reduction)},
                                      "outputs");
  }
}

// Runs last.
TEST(RegressionMetricsParity, NoCaseIsLeftOut) {
  regression_cases().expect_none_left_out();
}

}  // namespace
}  // namespace troupe
