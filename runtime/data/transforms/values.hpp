// Transforms of values: from levels to floats, normalisation, erasing.
#pragma once

#include "troupe/runtime/data/transforms/geometry.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"

#include <optional>
#include <vector>

namespace troupe::transforms {

/// float32 from 0 to 1: torchvision's ToDtype(torch.float32, scale=True). A floating-point image keeps its values.
class ToFloat : public Transform {
 public:
  torch::Tensor operator()(const torch::Tensor& image) const override;
};

/// (image - mean) / std, of floating-point images.
class Normalize : public Transform {
 public:
  /// One value for all channels or one each. Throws UsageError for empty lists, a std that is 0 or not finite, and
  /// lists of different lengths of which neither is 1.
  Normalize(std::vector<double> mean, std::vector<double> std);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  const std::vector<double>& mean() const { return mean_; }
  const std::vector<double>& std() const { return std_; }

 private:
  std::vector<double> mean_, std_;
};

struct RandomErasingOptions {
  double p = 0.5;
  /// Erased area as a part of the image's.
  Range scale = {0.02, 0.33};
  /// Height by width of the erased region.
  Range ratio = {0.3, 3.3};
  /// In the image's units, one value or one a channel; empty: normally distributed noise, torchvision's "random".
  std::vector<double> value = {0};
};

/// Overwrites a random rectangle (https://arxiv.org/abs/1708.04896).
class RandomErasing : public Transform {
 public:
  struct Parameters {
    Crop region;
    torch::Tensor value;  ///< broadcasts to [C, region.height, region.width]
  };

  explicit RandomErasing(RandomErasingOptions options = {});
  torch::Tensor operator()(const torch::Tensor& image) const override;
  /// Nothing: the image stays as it is, by chance or because none of ten regions fits.
  std::optional<Parameters> draw(int64_t channels, int64_t height, int64_t width) const;

 private:
  RandomErasingOptions options_;
  float log_low_, log_high_;
};

}  // namespace troupe::transforms
