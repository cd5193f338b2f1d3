#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/placement.hpp"

#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace troupe::transforms {

void check_padding(const Padding& padding, PaddingMode mode, int64_t height, int64_t width, const char* who) {
  if (mode == PaddingMode::constant) return;
  if (mode == PaddingMode::edge && height > 0 && width > 0) return;
  const bool reflects = mode == PaddingMode::reflect;
  const int64_t most_rows = reflects ? height - 1 : height, most_columns = reflects ? width - 1 : width;
  const auto& [left, top, right, bottom] = padding;
  if (std::max(top, bottom) <= most_rows && std::max(left, right) <= most_columns) return;
  throw UsageError(std::string(who) + ": the padding (" + std::to_string(left) + ", " + std::to_string(top) + ", " +
                   std::to_string(right) + ", " + std::to_string(bottom) + ") is too large for an image of " +
                   size_text(height, width) + ": at most " + std::to_string(std::max<int64_t>(0, most_columns)) +
                   " columns and " + std::to_string(std::max<int64_t>(0, most_rows)) + " rows can be mirrored");
}

namespace functional {

namespace {

/// Repeats pixels of dimension `dim` as `mode` says.
torch::Tensor padded_by_index(const torch::Tensor& image, int64_t dim, int64_t before, int64_t after,
                              PaddingMode mode) {
  if (before == 0 && after == 0) return image;
  std::vector<int64_t> indices;
  for (int64_t i = -before; i < image.size(dim) + after; ++i)
    indices.push_back(padding_index(i, image.size(dim), mode));
  return image.index_select(dim, at::tensor(indices, torch::kInt64).to(image.device()));
}

/// Gives what `padding` added to `image` one value a channel.
void fill_padding(torch::Tensor& image, const Padding& padding, const std::vector<double>& fill) {
  const auto values = at::tensor(fill, torch::kFloat64).to(image.options()).view({-1, 1, 1});
  const int64_t height = image.size(-2), width = image.size(-1);
  const auto fill_part = [&](int64_t dim, int64_t begin, int64_t end) {
    if (begin < end) image.slice(dim, begin, end).copy_(values);
  };
  fill_part(-2, 0, padding.top);
  fill_part(-1, 0, padding.left);
  fill_part(-2, height - std::max<int64_t>(0, padding.bottom), height);
  fill_part(-1, width - std::max<int64_t>(0, padding.right), width);
}

}  // namespace

torch::Tensor resize(const torch::Tensor& image, Size size) {
  check_image(image, "resize");
  check_size(size, "resize");
  const int64_t height = image.size(-2), width = image.size(-1);
  if (height == size.height && width == size.width) return image;
  if (image.numel() == 0) throw UsageError("resize: an image of " + size_text(height, width) + " has no pixels");
  const auto type = image.scalar_type();
  // LibTorch 2.11 computes wrong levels, or fails, where the result is one pixel wide.
  const bool is_native = type == torch::kUInt8 ? size.width > 1 : type == torch::kFloat32 || type == torch::kFloat64;
  auto pixels = image.reshape({-1, image.size(-3), height, width});
  if (!is_native) pixels = pixels.to(torch::kFloat32);
  pixels = at::_upsample_bilinear2d_aa(pixels, {size.height, size.width}, /*align_corners=*/false);
  if (!is_native) pixels = (type == torch::kUInt8 ? pixels.round_() : pixels).to(type);
  auto shape = image.sizes().vec();
  shape[shape.size() - 2] = size.height;
  shape[shape.size() - 1] = size.width;
  return pixels.reshape(shape);
}

torch::Tensor crop(const torch::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width) {
  check_image(image, "crop");
  check_size({height, width}, "crop");
  const int64_t rows = image.size(-2), columns = image.size(-1);
  const int64_t first_row = std::clamp<int64_t>(top, 0, rows), end_row = std::clamp<int64_t>(top + height, 0, rows);
  const int64_t first_column = std::clamp<int64_t>(left, 0, columns);
  const int64_t end_column = std::clamp<int64_t>(left + width, 0, columns);
  const auto inside = image.slice(-2, first_row, end_row).slice(-1, first_column, end_column);
  if (inside.size(-2) == height && inside.size(-1) == width) return inside;
  const int64_t above = std::min(height, std::max<int64_t>(0, -top));
  const int64_t before = std::min(width, std::max<int64_t>(0, -left));
  return at::constant_pad_nd(inside,
                             {before, width - before - inside.size(-1), above, height - above - inside.size(-2)}, 0);
}

torch::Tensor center_crop(const torch::Tensor& image, Size size) {
  check_image(image, "center_crop");
  check_size(size, "center_crop");
  const auto [top, left] = center_crop_place(size, image.size(-2), image.size(-1));
  return crop(image, top, left, size.height, size.width);
}

torch::Tensor resized_crop(const torch::Tensor& image, int64_t top, int64_t left, int64_t height, int64_t width,
                           Size size) {
  return resize(crop(image, top, left, height, width), size);
}

torch::Tensor pad(const torch::Tensor& image, const Padding& padding, const std::vector<double>& fill,
                  PaddingMode mode) {
  check_image(image, "pad");
  const auto& [left, top, right, bottom] = padding;
  const int64_t height = image.size(-2), width = image.size(-1);
  if (height + top + bottom < 1 || width + left + right < 1) {
    throw UsageError("pad: (" + std::to_string(left) + ", " + std::to_string(top) + ", " + std::to_string(right) +
                     ", " + std::to_string(bottom) + ") leaves nothing of an image of " + size_text(height, width));
  }
  if (mode == PaddingMode::constant) {
    check_fill(fill, image, "pad");
    auto padded = at::constant_pad_nd(image, {left, right, top, bottom}, fill.size() == 1 ? fill[0] : 0);
    if (fill.size() > 1) fill_padding(padded, padding, fill);
    return padded;
  }
  const auto cut = [](const torch::Tensor& pixels, int64_t dim, int64_t before, int64_t after) {
    return pixels.slice(dim, std::max<int64_t>(0, -before), pixels.size(dim) + std::min<int64_t>(0, after));
  };
  const auto inside = cut(cut(image, -2, top, bottom), -1, left, right);
  check_padding(padding, mode, inside.size(-2), inside.size(-1), "pad");
  const auto rows = padded_by_index(inside, -2, std::max<int64_t>(0, top), std::max<int64_t>(0, bottom), mode);
  return padded_by_index(rows, -1, std::max<int64_t>(0, left), std::max<int64_t>(0, right), mode);
}

torch::Tensor horizontal_flip(const torch::Tensor& image) {
  check_image(image, "horizontal_flip");
  return image.flip(-1);
}

torch::Tensor vertical_flip(const torch::Tensor& image) {
  check_image(image, "vertical_flip");
  return image.flip(-2);
}

}  // namespace functional

}  // namespace troupe::transforms
