// Transforms of colours. They take images of 1 or 3 channels (RGB).
#pragma once

#include "troupe/runtime/data/transforms/transform.hpp"

#include <array>
#include <optional>

namespace troupe::transforms {

/// How much one property of an image varies: `amount` around the centre (1, for hue 0), or a range of factors.
struct Jitter {
  Jitter(double amount) : low(amount), high(amount), is_amount(true) {}  // NOLINT(google-explicit-constructor)
  Jitter(double lowest, double highest) : low(lowest), high(highest), is_amount(false) {}
  double low, high;
  bool is_amount;
};

/// `0.4` stands for factors from 0.6 to 1.4, `{0.8, 1.1}` for those.
struct ColorJitterOptions {
  Jitter brightness = 0;
  Jitter contrast = 0;
  Jitter saturation = 0;
  /// At most 0.5 in amount: factors from -0.5 to 0.5, as parts of the colour circle.
  Jitter hue = 0;
};

/// Changes brightness, contrast, saturation and hue by random factors, in random order.
class ColorJitter : public Transform {
 public:
  enum Property { brightness, contrast, saturation, hue };
  struct Parameters {
    std::array<int, 4> order{};                      ///< of Property
    std::array<std::optional<double>, 4> factors{};  ///< by Property; nothing: left as it is
  };

  /// Throws UsageError for negative amounts or factors, and for a hue beyond 0.5.
  explicit ColorJitter(const ColorJitterOptions& options);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  Parameters draw() const;
  /// Changes the image by given factors.
  static torch::Tensor apply(const torch::Tensor& image, const Parameters& parameters);

 private:
  struct Factors {
    double low, high;
  };
  std::array<std::optional<Factors>, 4> ranges_;
};

/// Luminance of an RGB image, in 1 or 3 equal channels.
class Grayscale : public Transform {
 public:
  explicit Grayscale(int64_t num_output_channels = 1);
  torch::Tensor operator()(const torch::Tensor& image) const override;

 private:
  int64_t channels_;
};

/// Makes an image grey with probability `p`; it keeps its number of channels.
class RandomGrayscale : public Transform {
 public:
  explicit RandomGrayscale(double p = 0.1);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  bool draw() const;

 private:
  double p_;
};

}  // namespace troupe::transforms
