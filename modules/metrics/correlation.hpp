// How predictions and targets go together: explained variance, and Pearson's, Spearman's and Kendall's coefficients.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <optional>
#include <vector>

namespace troupe::metrics {

/// Keeps ten numbers of each batch and output (state moments, joined): sizes, means, sums of squares and products about
/// them, and ranges, which combine without cancellation (Chan, Golub and LeVeque 1983).
class MomentsMetric : public TargetMetric {
 protected:
  MomentsMetric() { moments_ = add_list("moments", torch::kFloat64); }

  /// Adds pairs, float64 (N, ...), each position of (...) an output.
  void add_pairs(const torch::Tensor& x, const torch::Tensor& y);
  /// Over all batches, of the shape of outputs: sums of squares and products about the means, and whether x and y vary.
  struct Moments {
    torch::Tensor squares_x, squares_y, products;
    torch::Tensor x_varies, y_varies;  ///< bool
  };
  /// Empty without any pair.
  std::optional<Moments> moments() const;

 private:
  State moments_;
  std::optional<std::vector<int64_t>> outputs_;  // their shape, since the first batch
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/explained_variance.html
struct ExplainedVarianceOptions {
  Multioutput multioutput = Multioutput::uniform_average;
};

/// 1 - variance of target - preds / variance of target, so that a constant error costs nothing. preds and target are
/// (N, ...), each position of (...) an output, any type, float64 inside. 1 if the error does not vary, else 0 if the
/// target does not. With Multioutput::variance_weighted it is the mean where no output varies. NaN for no sample.
class ExplainedVariance : public MomentsMetric {
 public:
  explicit ExplainedVariance(ExplainedVarianceOptions options = {});
  bool is_scalar() const override { return options_.multioutput != Multioutput::raw_values; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  ExplainedVarianceOptions options_;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/pearson_corr_coef.html
struct PearsonCorrCoefOptions {
  int64_t num_outputs = 1;  ///< above 1: inputs are (N, num_outputs), and the value is that many coefficients
};

/// The linear correlation, -1 to 1. preds and target are (N) or (N, num_outputs), any type, float64 inside. NaN if one
/// of them does not vary.
class PearsonCorrCoef : public MomentsMetric {
 public:
  /// Throws UsageError for num_outputs below 1.
  explicit PearsonCorrCoef(PearsonCorrCoefOptions options = {});
  bool is_scalar() const override { return num_outputs_ == 1; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  int64_t num_outputs_;
};

/// A coefficient of ranks: it keeps all values (states preds and target, joined), so memory grows with the data.
class RankCorrelation : public TargetMetric {
 public:
  bool is_scalar() const override { return num_outputs_ == 1; }

 protected:
  RankCorrelation(const char* name, int64_t num_outputs);

  /// The coefficient of each row; both are float64, [outputs, n], n at least 1.
  virtual torch::Tensor coefficients(const torch::Tensor& preds, const torch::Tensor& target) const = 0;

  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  const char* name_;
  int64_t num_outputs_;
  State preds_, target_;
};

/// https://lightning.ai/docs/torchmetrics/stable/regression/spearman_corr_coef.html
struct SpearmanCorrCoefOptions {
  int64_t num_outputs = 1;  ///< as PearsonCorrCoefOptions
};

/// The linear correlation of ranks, of which equal values share the mean. Input as PearsonCorrCoef. 0 if one of them
/// does not vary, NaN for no sample and for a value that is NaN.
class SpearmanCorrCoef : public RankCorrelation {
 public:
  /// Throws UsageError for num_outputs below 1.
  explicit SpearmanCorrCoef(SpearmanCorrCoefOptions options = {});

 protected:
  torch::Tensor coefficients(const torch::Tensor& preds, const torch::Tensor& target) const override;
};

/// What the difference of pairs is divided by.
enum class KendallVariant {
  a,  ///< pairs that are in order or out of it
  b,  ///< heeds ties
  c,  ///< for scales of different length
};
TROUPE_CHOICES(KendallVariant, {a, "a"}, {b, "b"}, {c, "c"})

/// https://lightning.ai/docs/torchmetrics/stable/regression/kendall_rank_corr_coef.html
struct KendallRankCorrCoefOptions {
  KendallVariant variant = KendallVariant::b;
  int64_t num_outputs = 1;  ///< as PearsonCorrCoefOptions
};

/// Pairs in order less those out of it, as a share; counted in n log n on the CPU (Knight 1966). Input as
/// PearsonCorrCoef. NaN if one of them does not vary, for no sample, and for a value that is NaN. There is no p-value.
class KendallRankCorrCoef : public RankCorrelation {
 public:
  /// Throws UsageError for num_outputs below 1.
  explicit KendallRankCorrCoef(KendallRankCorrCoefOptions options = {});

 protected:
  torch::Tensor coefficients(const torch::Tensor& preds, const torch::Tensor& target) const override;

 private:
  KendallVariant variant_;
};

}  // namespace troupe::metrics
