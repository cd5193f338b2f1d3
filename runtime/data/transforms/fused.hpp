// The usual chain of transforms for pixels that a decoder just wrote, in one pass: crop, antialiased resize, flips,
// conversion to float and normalisation go from the decoder's memory straight to the batch's.
#pragma once

#include "troupe/runtime/data/transforms/geometry.hpp"
#include "troupe/runtime/data/transforms/pixel_view.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace troupe::transforms {

/// Whole pixels: the first one, and the one after the last.
struct PixelRange {
  int64_t begin, end;
};

/// A rectangle in pixels of a source, with fractions.
struct Box {
  double top = 0, left = 0, height = 0, width = 0;
};

/// What FusedTransform::draw decided for one image.
///
/// The pixels of `box` become `resized` pixels; the result is a window of them. A window that reaches beyond is filled
/// up as RandomCrop's options say, or with 0 (CenterCrop).
struct DrawnImage {
  Box box;                ///< what is resampled, in the image's pixels; no pixel outside of it has an influence
  Box needed;             ///< the part of `box` that the result depends on: what a decoder has to decode, whole pixels
  Size resized = {0, 0};  ///< what the box becomes
  int64_t window_top = 0, window_left = 0;  ///< of the result in the resized box
  int64_t out_height = 0, out_width = 0;
  bool flip_horizontal = false, flip_vertical = false;
  PixelRange shown_rows = {0, 0}, shown_columns = {0, 0};  ///< of the resized box, what the result consists of
};

/// A Compose as one pass. An object may serve several threads at once.
class FusedTransform {
 public:
  /// Of a chain of RandomResizedCrop | Resize | CenterCrop | RandomCrop | Resize with one of the two crops, then flips,
  /// ToFloat and Normalize, each of them or none; nothing for any other chain, and for one whose results differ in size
  /// from image to image.
  static std::optional<FusedTransform> of(const Compose& steps);

  /// Draws all parameters for an image of this size, in the order in which the steps would and from the same generator.
  /// Throws UsageError for an image that is too small for a RandomCrop.
  DrawnImage draw(int64_t height, int64_t width) const;
  /// Height and width of each result.
  std::array<int64_t, 2> output_size() const { return {out_.height, out_.width}; }
  /// torch::kFloat32 or torch::kUInt8.
  torch::ScalarType output_type() const { return to_float_ ? torch::kFloat32 : torch::kUInt8; }

  /// Writes the result into `row`, contiguous, [channels, height, width] of output_type().
  ///
  /// `source` is the decoded image or the part of it that covers drawn.needed, at any scale; `box_in_source` is where
  /// drawn.box lies in it, in its pixels, and may reach beyond `source` if drawn.needed does not. At the image's own
  /// scale the result before normalisation is what the steps give, within one level of uint8 (equal on a CPU with
  /// AVX2), and floats are within 1e-6 of theirs; at another scale it is an approximation. The bits are the same on all
  /// CPUs. Throws UsageError if sizes, types or numbers of channels do not fit together.
  void write(const PixelView& source, const Box& box_in_source, const DrawnImage& drawn, torch::Tensor& row) const;

 private:
  FusedTransform() = default;
  void set_normalization(const std::vector<double>& mean, const std::vector<double>& std);
  static Box needed_box(const DrawnImage& drawn);

  // At most one of these is set, but for a Resize with a crop.
  std::optional<RandomResizedCrop> random_resized_crop_;
  std::optional<Resize> resize_;
  std::optional<CenterCrop> center_crop_;
  std::optional<RandomCrop> random_crop_;
  struct Flip {
    bool vertical;
    double p;
  };
  std::vector<Flip> flips_;
  bool to_float_ = false;
  // Of each channel, or one for all: result = level * scale + shift.
  std::vector<float> scale_ = {1}, shift_ = {0};
  Size out_ = {0, 0};
};

}  // namespace troupe::transforms
