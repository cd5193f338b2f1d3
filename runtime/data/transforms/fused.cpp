#include "troupe/runtime/data/transforms/fused.hpp"

#include "troupe/runtime/data/transforms/draws.hpp"
#include "troupe/runtime/data/transforms/placement.hpp"
#include "troupe/runtime/data/transforms/resample_axis.hpp"
#include "troupe/runtime/data/transforms/values.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <tuple>

namespace troupe::transforms {

namespace {

using Steps = std::vector<std::shared_ptr<const Transform>>;

/// The steps with those of every Compose among them in its place.
void append_flat_steps(const Compose& compose, Steps& flat) {
  for (const auto& step : compose.steps()) {
    if (const auto* inner = dynamic_cast<const Compose*>(step.get())) {
      append_flat_steps(*inner, flat);
    } else {
      flat.push_back(step);
    }
  }
}

/// The step at `position` if it is a T, which is then behind us.
template <class T>
std::optional<T> taken_step(const Steps& steps, std::size_t& position) {
  if (position >= steps.size()) return std::nullopt;
  const auto* step = dynamic_cast<const T*>(steps[position].get());
  if (!step) return std::nullopt;
  position += 1;
  return *step;
}

bool fits_levels(const std::vector<double>& fill) {
  return std::all_of(fill.begin(), fill.end(), [](double value) { return value >= 0 && value <= 255; });
}

/// The positions in [0, size) that a window of `count` from `begin` shows.
PixelRange shown_positions(int64_t begin, int64_t count, int64_t size, PaddingMode mode) {
  if (begin >= 0 && begin + count <= size) return {begin, begin + count};
  PixelRange shown{size, 0};
  for (int64_t i = begin; i < begin + count; ++i) {
    const int64_t position = padding_index(i, size, mode);
    if (position < 0) continue;
    shown = {std::min(shown.begin, position), std::max(shown.end, position + 1)};
  }
  return shown;
}

}  // namespace

std::optional<FusedTransform> FusedTransform::of(const Compose& compose) {
  Steps steps;
  append_flat_steps(compose, steps);
  FusedTransform fused;
  std::size_t position = 0;
  if ((fused.random_resized_crop_ = taken_step<RandomResizedCrop>(steps, position))) {
    fused.out_ = fused.random_resized_crop_->size();
  } else {
    fused.resize_ = taken_step<Resize>(steps, position);
    if ((fused.center_crop_ = taken_step<CenterCrop>(steps, position))) {
      fused.out_ = fused.center_crop_->size();
    } else if ((fused.random_crop_ = taken_step<RandomCrop>(steps, position))) {
      fused.out_ = fused.random_crop_->size();
      if (!fits_levels(fused.random_crop_->options().fill)) return std::nullopt;
    } else if (fused.resize_ && fused.resize_->is_fixed()) {
      fused.out_ = fused.resize_->output_size(1, 1);
    } else {
      return std::nullopt;
    }
  }
  bool is_normalized = false;
  while (position < steps.size()) {
    if (const auto horizontal = taken_step<RandomHorizontalFlip>(steps, position)) {
      fused.flips_.push_back({false, horizontal->p()});
    } else if (const auto vertical = taken_step<RandomVerticalFlip>(steps, position)) {
      fused.flips_.push_back({true, vertical->p()});
    } else if (taken_step<ToFloat>(steps, position)) {
      if (!fused.to_float_) fused.scale_ = {1.0F / 255};
      fused.to_float_ = true;
    } else if (const auto normalize = taken_step<Normalize>(steps, position);
               normalize && fused.to_float_ && !is_normalized) {
      is_normalized = true;
      fused.set_normalization(normalize->mean(), normalize->std());
    } else {
      return std::nullopt;
    }
  }
  return fused;
}

void FusedTransform::set_normalization(const std::vector<double>& mean, const std::vector<double>& std) {
  const std::size_t channels = std::max(mean.size(), std.size());
  scale_.resize(channels);
  shift_.resize(channels);
  for (std::size_t i = 0; i < channels; ++i) {
    const double m = mean[mean.size() == 1 ? 0 : i], s = std[std.size() == 1 ? 0 : i];
    scale_[i] = static_cast<float>(1 / (255 * s));
    shift_[i] = static_cast<float>(-m / s);
  }
}

DrawnImage FusedTransform::draw(int64_t height, int64_t width) const {
  DrawnImage drawn;
  drawn.box = {0, 0, static_cast<double>(height), static_cast<double>(width)};
  drawn.out_height = out_.height;
  drawn.out_width = out_.width;
  auto mode = PaddingMode::constant;
  if (random_resized_crop_) {
    const auto crop = random_resized_crop_->draw(height, width);
    drawn.box = {static_cast<double>(crop.top), static_cast<double>(crop.left), static_cast<double>(crop.height),
                 static_cast<double>(crop.width)};
    drawn.resized = out_;
  } else {
    drawn.resized = resize_ ? resize_->output_size(height, width) : Size(height, width);
  }
  const auto [rows, columns] = drawn.resized;
  if (center_crop_) std::tie(drawn.window_top, drawn.window_left) = center_crop_place(out_, rows, columns);
  if (random_crop_) {
    const auto [padding, crop] = random_crop_->draw(rows, columns);
    mode = random_crop_->options().padding_mode;
    check_padding(padding, mode, rows, columns, "RandomCrop");
    drawn.window_top = crop.top - padding.top;
    drawn.window_left = crop.left - padding.left;
  }
  for (const auto& [is_vertical, p] : flips_) {
    const bool flips = draw_chance(p);
    (is_vertical ? drawn.flip_vertical : drawn.flip_horizontal) ^= flips;
  }
  drawn.shown_rows = shown_positions(drawn.window_top, out_.height, rows, mode);
  drawn.shown_columns = shown_positions(drawn.window_left, out_.width, columns, mode);
  drawn.needed = needed_box(drawn);
  return drawn;
}

Box FusedTransform::needed_box(const DrawnImage& drawn) {
  const auto [top, bottom] = drawn.shown_rows;
  const auto [left, right] = drawn.shown_columns;
  if (top >= bottom || left >= right) return {};
  const auto rows = ResampleAxis::needed(drawn.box.top, drawn.box.height, drawn.resized.height, top, bottom);
  const auto columns = ResampleAxis::needed(drawn.box.left, drawn.box.width, drawn.resized.width, left, right);
  return {static_cast<double>(rows.begin), static_cast<double>(columns.begin),
          static_cast<double>(rows.end - rows.begin), static_cast<double>(columns.end - columns.begin)};
}

}  // namespace troupe::transforms
