// How near images are to the images that they should be: PSNR and SSIM, and of sets of images the Frechet distance.
#pragma once

#include "troupe/modules/metrics/choices.hpp"
#include "troupe/modules/metrics/metric.hpp"

#include <optional>

namespace troupe::metrics {

/// The values that images can have: their width, or the lowest and the highest, to which images are clamped.
///
///     .data_range = 1.0
///     .data_range = {-1.0, 1.0}
class DataRange {
 public:
  DataRange(double width) : width_(width) {}
  DataRange(double lowest, double highest) : width_(highest - lowest), lowest_(lowest), highest_(highest) {}

  double width() const { return width_; }
  torch::Tensor clamped(const torch::Tensor& images) const;
  /// Throws UsageError ("<metric>: ...") unless the width is above 0 and finite.
  void check(const char* metric) const;

 private:
  double width_;
  std::optional<double> lowest_, highest_;
};

/// https://lightning.ai/docs/torchmetrics/stable/image/peak_signal_noise_ratio.html
struct PeakSignalNoiseRatioOptions {
  DataRange data_range;
  double base = 10;  ///< of the logarithm, above 1
};

/// 10 log(data_range^2 / mean squared error), in decibels with base 10, over all pixels of all images. preds and target
/// of one shape and any type, float64 inside. Infinite if they are the same, NaN for no pixel. There is no dim.
class PeakSignalNoiseRatio : public TargetMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit PeakSignalNoiseRatio(PeakSignalNoiseRatioOptions options);

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  PeakSignalNoiseRatioOptions options_;
  State sum_squared_error_, total_;
};

/// https://lightning.ai/docs/torchmetrics/stable/image/structural_similarity.html
struct StructuralSimilarityIndexMeasureOptions {
  bool gaussian_kernel = true;  ///< weights pixels of a window by their distance; false: all alike
  double sigma = 1.5;        ///< of the Gaussian, in pixels, above 0; its window is 2 floor(3.5 sigma + 0.5) + 1 wide
  int64_t kernel_size = 11;  ///< width of a window without a Gaussian, odd
  Reduction reduction = Reduction::elementwise_mean;  ///< over images
  std::optional<DataRange> data_range =
      std::nullopt;             ///< none: what the batch has, so that the value depends on batches
  double k1 = 0.01, k2 = 0.03;  ///< keep divisors above 0
};

/// The mean over pixels and channels of luminance, contrast and structure that images share (Wang et al. 2004), at most
/// 1. preds and target are images (N, C, H, W) or volumes (N, C, D, H, W), any type, float64 inside; H, W and D must be
/// wider than half a window. NaN for no image.
class StructuralSimilarityIndexMeasure : public TargetMetric {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit StructuralSimilarityIndexMeasure(StructuralSimilarityIndexMeasureOptions options = {});
  bool is_scalar() const override { return options_.reduction != Reduction::none; }

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;

 private:
  torch::Tensor similarity(const torch::Tensor& preds, const torch::Tensor& target) const;
  torch::Tensor smooth(const torch::Tensor& images) const;

  StructuralSimilarityIndexMeasureOptions options_;
  torch::Tensor window_;  // [width], sums to 1
  State similarity_, total_;
};

/// https://lightning.ai/docs/torchmetrics/stable/image/frechet_inception_distance.html
struct FrechetInceptionDistanceOptions {
  int64_t num_features;  ///< at least 1
};

/// How far the features of made images are from those of real ones: the Frechet distance of two normal distributions
/// with their means and covariances (Heusel et al. 2017). Features come from a network of your own: for values that can
/// be compared with published ones, the 2048 of torch-fidelity's Inception v3. Sums are float64. compute() throws
/// UsageError for fewer than two samples of either; the value of one batch is then NaN, as for features that are NaN.
class FrechetInceptionDistance : public Metric {
 public:
  /// Throws UsageError for num_features below 1.
  explicit FrechetInceptionDistance(FrechetInceptionDistanceOptions options);

  /// Adds a batch of features (N, num_features) of real images, or of made ones. Throws UsageError for another shape.
  void update(const torch::Tensor& features, bool real);
  /// Adds a batch and returns its value alone, which is NaN, since it has samples of one kind.
  torch::Tensor operator()(const torch::Tensor& features, bool real);

 protected:
  torch::Tensor result() const override;
  void verify() const override;

 private:
  struct Sums {
    State sum, products, count;
  };
  Sums declare(const std::string& prefix);
  void check(const torch::Tensor& features) const;
  void add(const Sums& sums, const torch::Tensor& features);

  int64_t num_features_;
  Sums real_, fake_;
};

}  // namespace troupe::metrics
