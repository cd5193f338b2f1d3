// Transforms that change an image's size or move its pixels: Resize, Pad, crops and flips.
#pragma once

#include "troupe/runtime/data/transforms/transform.hpp"

#include <cstdint>
#include <optional>
#include <vector>

namespace troupe::transforms {

/// Height and width in pixels; one number is both.
struct Size {
  Size(int64_t side) : height(side), width(side) {}  // NOLINT(google-explicit-constructor): CenterCrop(224)
  Size(int64_t h, int64_t w) : height(h), width(w) {}
  int64_t height, width;
};

/// Pixels added on each side; one number is all four, two are left/right and top/bottom.
struct Padding {
  Padding() = default;
  Padding(int64_t all) : Padding(all, all, all, all) {}  // NOLINT(google-explicit-constructor): .padding = 4
  Padding(int64_t left_right, int64_t top_bottom) : Padding(left_right, top_bottom, left_right, top_bottom) {}
  Padding(int64_t l, int64_t t, int64_t r, int64_t b) : left(l), top(t), right(r), bottom(b) {}
  bool empty() const { return left == 0 && top == 0 && right == 0 && bottom == 0; }
  bool operator==(const Padding&) const = default;
  int64_t left = 0, top = 0, right = 0, bottom = 0;
};

/// What padding pixels are.
enum class PaddingMode {
  constant,   ///< `fill`
  edge,       ///< the nearest pixel of the image
  reflect,    ///< mirrored without the edge: 3 2 | 1 2 3; less than the image's size on each side
  symmetric,  ///< mirrored with the edge: 2 1 | 1 2 3; at most the image's size on each side
};

/// A rectangle of whole pixels.
struct Crop {
  int64_t top = 0, left = 0, height = 0, width = 0;
  bool operator==(const Crop&) const = default;
};

struct ResizeOptions {
  /// The most that the longer side may have; the shorter side gets shorter than asked for instead. With `size` as the
  /// shorter side only, and larger than it.
  std::optional<int64_t> max_size = std::nullopt;
};

/// Resamples with the antialiased bilinear filter.
class Resize : public Transform {
 public:
  /// The shorter side becomes `size`, the longer one keeps the aspect ratio, rounded down.
  explicit Resize(int64_t size, ResizeOptions options = {});
  /// Exactly this height and width: Resize({240, 320}).
  explicit Resize(Size size);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  /// What an image of this size becomes.
  Size output_size(int64_t height, int64_t width) const;
  /// Whether all images get one size.
  bool is_fixed() const { return !shorter_; }

 private:
  Size size_;
  bool shorter_;
  std::optional<int64_t> max_size_;
};

/// The middle of the image; an image that is smaller is padded with 0.
class CenterCrop : public Transform {
 public:
  explicit CenterCrop(Size size);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  Size size() const { return size_; }

 private:
  Size size_;
};

struct PadOptions {
  /// In the image's units, one value or one a channel; for PaddingMode::constant.
  std::vector<double> fill = {0};
  PaddingMode padding_mode = PaddingMode::constant;
};

class Pad : public Transform {
 public:
  /// Negative padding cuts off.
  explicit Pad(Padding padding, PadOptions options = {});
  torch::Tensor operator()(const torch::Tensor& image) const override;

 private:
  Padding padding_;
  PadOptions options_;
};

struct RandomCropOptions {
  /// Added before the crop.
  Padding padding = {};
  /// Pads an image that is too small by what it lacks, on both sides; else it is an error.
  bool pad_if_needed = false;
  /// As in PadOptions.
  std::vector<double> fill = {0};
  PaddingMode padding_mode = PaddingMode::constant;
};

/// A crop of fixed size at a random place.
class RandomCrop : public Transform {
 public:
  /// The padding comes first; the crop is a part of the padded image.
  struct Parameters {
    Padding padding;
    Crop crop;
  };

  explicit RandomCrop(Size size, RandomCropOptions options = {});
  torch::Tensor operator()(const torch::Tensor& image) const override;
  /// Throws UsageError if an image of this size is too small.
  Parameters draw(int64_t height, int64_t width) const;
  Size size() const { return size_; }
  const RandomCropOptions& options() const { return options_; }

 private:
  Size size_;
  RandomCropOptions options_;
};

/// A range of values, the lower one first.
struct Range {
  double low, high;
};

struct RandomResizedCropOptions {
  /// Area of the crop as a part of the image's.
  Range scale = {0.08, 1.0};
  /// Width by height of the crop.
  Range ratio = {3.0 / 4.0, 4.0 / 3.0};
};

/// A crop of random area and aspect ratio, resampled to a fixed size (https://arxiv.org/abs/1409.4842).
class RandomResizedCrop : public Transform {
 public:
  explicit RandomResizedCrop(Size size, RandomResizedCropOptions options = {});
  torch::Tensor operator()(const torch::Tensor& image) const override;
  /// The crop of an image of this size: the first of ten tries that fits, else the largest in the middle whose aspect
  /// ratio is in range.
  Crop draw(int64_t height, int64_t width) const;
  Size size() const { return size_; }

 private:
  Size size_;
  RandomResizedCropOptions options_;
  float log_low_, log_high_;
};

/// Mirrors left and right with probability `p`.
class RandomHorizontalFlip : public Transform {
 public:
  explicit RandomHorizontalFlip(double p = 0.5);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  /// Whether the image is flipped.
  bool draw() const;
  double p() const { return p_; }

 private:
  double p_;
};

/// Mirrors top and bottom with probability `p`.
class RandomVerticalFlip : public Transform {
 public:
  explicit RandomVerticalFlip(double p = 0.5);
  torch::Tensor operator()(const torch::Tensor& image) const override;
  bool draw() const;
  double p() const { return p_; }

 private:
  double p_;
};

}  // namespace troupe::transforms
