// Where a crop lies, how its numbers are rounded, and which pixel of an image a padding pixel repeats.
#pragma once

#include "troupe/runtime/data/transforms/geometry.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace troupe::transforms {

/// The index in [0, size) that `index` stands for, which may lie outside; -1 if it is filled with a constant. The
/// padding is no larger than PaddingMode allows.
inline int64_t padding_index(int64_t index, int64_t size, PaddingMode mode) {
  if (index >= 0 && index < size) return index;
  switch (mode) {
    case PaddingMode::edge: return std::clamp<int64_t>(index, 0, size - 1);
    case PaddingMode::reflect: return index < 0 ? -index : 2 * (size - 1) - index;
    case PaddingMode::symmetric: return index < 0 ? -index - 1 : 2 * size - 1 - index;
    case PaddingMode::constant: break;
  }
  return -1;
}

/// Python's int(round(number)): halves go to the even number.
inline int64_t python_round(double number) {
  return static_cast<int64_t>(std::nearbyint(number));
}

/// The place of a crop in the middle of an image; negative if the image is smaller.
inline std::pair<int64_t, int64_t> center_crop_place(Size crop, int64_t height, int64_t width) {
  const auto place = [](int64_t part, int64_t whole) {
    return part > whole ? -((part - whole) / 2) : python_round(static_cast<double>(whole - part) / 2);
  };
  return {place(crop.height, height), place(crop.width, width)};
}

/// Throws UsageError for padding that mirrors more than an image of this size has. `who` begins the message.
void check_padding(const Padding& padding, PaddingMode mode, int64_t height, int64_t width, const char* who);

}  // namespace troupe::transforms
