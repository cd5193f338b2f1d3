#include "troupe/runtime/data/transforms/checks.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <cmath>

namespace troupe::transforms {

std::string size_text(int64_t height, int64_t width) {
  return "(" + std::to_string(height) + ", " + std::to_string(width) + ")";
}

std::string image_text(const torch::Tensor& image) {
  if (!image.defined()) return "an undefined tensor";
  return "[" + joined(image.sizes()) + "] of " + c10::toString(image.scalar_type());
}

void check_image(const torch::Tensor& image, const char* who) {
  if (image.defined() && image.dim() >= 3 && (image.scalar_type() == torch::kUInt8 || image.is_floating_point())) {
    return;
  }
  throw UsageError(std::string(who) + " takes images [..., channels, height, width] of uint8 or floating point, not " +
                   image_text(image));
}

void check_colors(const torch::Tensor& image, const char* who) {
  check_image(image, who);
  if (image.size(-3) == 1 || image.size(-3) == 3) return;
  throw UsageError(std::string(who) + " takes images of 1 or 3 channels, not " + std::to_string(image.size(-3)));
}

void check_probability(double p, const char* who) {
  if (p >= 0 && p <= 1) return;
  throw UsageError(std::string(who) + ": p is " + double_to_text(p) + "; a probability from 0 to 1 was expected");
}

void check_size(Size size, const char* who) {
  if (size.height >= 1 && size.width >= 1) return;
  throw UsageError(std::string(who) + ": the size is " + size_text(size.height, size.width) +
                   "; a height and a width of at least 1 were expected");
}

void check_range(Range range, double least, bool exclusive, double most, const char* what) {
  const bool starts_well = exclusive ? range.low > least : range.low >= least;
  if (starts_well && range.low <= range.high && range.high <= most && std::isfinite(range.high)) return;
  std::string expected = std::string("two numbers ") + (exclusive ? "above " : "from ") + double_to_text(least);
  if (std::isfinite(most)) expected += (exclusive ? ", at most " : " to ") + double_to_text(most);
  throw UsageError(std::string(what) + " is (" + double_to_text(range.low) + ", " + double_to_text(range.high) + "); " +
                   expected + " were expected, the lower one first");
}

void check_fill(const std::vector<double>& fill, const torch::Tensor& image, const char* who) {
  const int64_t channels = image.size(-3);
  if (fill.size() != 1 && static_cast<int64_t>(fill.size()) != channels) {
    throw UsageError(std::string(who) + ": the fill has " + std::to_string(fill.size()) +
                     " values; one, or one for each of the " + std::to_string(channels) + " channels, was expected");
  }
  if (image.is_floating_point()) return;
  for (const double value : fill) {
    if (value >= 0 && value <= 255) continue;
    throw UsageError(std::string(who) + ": the fill " + double_to_text(value) +
                     " is no value of a uint8 image; 0 to 255 was expected");
  }
}

void check_channel_values(std::size_t count, int64_t channels, const char* what) {
  if (count == 1 || static_cast<int64_t>(count) == channels) return;
  throw UsageError(std::string(what) + " has values for " + std::to_string(count) + " channels; an image of " +
                   std::to_string(channels) + " was given");
}

}  // namespace troupe::transforms
