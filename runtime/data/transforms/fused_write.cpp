#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/fused.hpp"
#include "troupe/runtime/data/transforms/placement.hpp"
#include "troupe/runtime/data/transforms/resample_axis.hpp"
#include "troupe/runtime/data/transforms/resample_rows.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>

namespace troupe::transforms {

namespace {

/// Memory of a thread, kept from image to image.
struct FusedScratch {
  ResampleAxis x, y;
  std::vector<uint8_t> ring;    ///< rows that are resampled along x
  std::vector<uint8_t> padded;  ///< rows near the end of the source, with bytes after them that may be read
  std::vector<uint8_t> row;     ///< one that is resampled along y too
  std::vector<uint8_t> line;    ///< one with its padding
  std::vector<const uint8_t*> taps;
  std::vector<float> scale, shift;
};

/// Where results go.
struct FusedOutput {
  uint8_t* levels;  ///< null for floats
  float* floats;
  const float *scale, *shift;  ///< of each channel
};

/// One image. Rows of the resized box are made in order, each of them once, and go to where the window shows them.
class FusedPass {
 public:
  FusedPass(const PixelView& source, const DrawnImage& drawn, PaddingMode mode, const std::vector<double>& fill,
            const FusedOutput& output, const RowLoops& loops, FusedScratch& scratch)
      : source_(source), drawn_(drawn), mode_(mode), fill_(fill), output_(output), loops_(loops), scratch_(scratch) {}

  void run(const Box& box) {
    const auto [top, bottom] = drawn_.shown_rows;
    const auto [left, right] = drawn_.shown_columns;
    if (top < bottom && left < right) {
      scratch_.y.prepare(box.top, box.height, drawn_.resized.height, top, bottom, source_.height);
      scratch_.x.prepare(box.left, box.width, drawn_.resized.width, left, right, source_.width);
      prepare_memory();
      for (int64_t row = top; row < bottom; ++row) show(row, resampled(row - top));
    }
    if (mode_ == PaddingMode::constant) fill_rows(left < right);
  }

 private:
  int64_t shown_width() const { return drawn_.shown_columns.end - drawn_.shown_columns.begin; }
  int64_t shown_bytes() const { return shown_width() * source_.channels; }

  void prepare_memory() {
    const auto& [x, y] = std::tie(scratch_.x, scratch_.y);
    scratch_.row.resize(static_cast<std::size_t>(shown_bytes()));
    if (!y.is_identity) scratch_.taps.resize(static_cast<std::size_t>(y.taps));
    if (x.is_identity) return;
    // A block of rows beside those that a result needs: none of them is overwritten too early.
    ring_rows_ = ((y.is_identity ? 1 : y.taps) + 2 * kRowBlock - 1) / kRowBlock * kRowBlock;
    ring_stride_ = shown_bytes() + kRowSlack;
    scratch_.ring.resize(static_cast<std::size_t>(ring_rows_ * ring_stride_));
    readable_ = (x.start.back() + x.taps) * source_.channels + kRowSlack;
    scratch_.padded.resize(static_cast<std::size_t>(kRowBlock * readable_));
  }

  /// Output `i` along y.
  const uint8_t* resampled(int64_t i) {
    const ResampleAxis& y = scratch_.y;
    if (y.is_identity) return along_x(y.shift + i);
    const auto at = static_cast<std::size_t>(i);
    for (int32_t tap = 0; tap < y.used[at]; ++tap) {
      scratch_.taps[static_cast<std::size_t>(tap)] = along_x(y.start[at] + tap);
    }
    loops_.vertical(scratch_.taps.data(), y.used[at], &y.weights[at * static_cast<std::size_t>(y.taps)], y.precision,
                    scratch_.row.data(), shown_bytes());
    return scratch_.row.data();
  }

  /// Row `row` of the source, resampled along x.
  const uint8_t* along_x(int64_t row) {
    if (scratch_.x.is_identity) {
      return source_.data + row * source_.row_stride + scratch_.x.shift * source_.channels;
    }
    const int64_t place = row - scratch_.y.lowest();
    while (place >= done_) resample_block();
    return ring_row(place);
  }

  uint8_t* ring_row(int64_t place) { return scratch_.ring.data() + place % ring_rows_ * ring_stride_; }

  void resample_block() {
    const int64_t first = scratch_.y.lowest(), count = scratch_.y.highest() - first;
    std::array<const uint8_t*, kRowBlock> rows;
    std::array<uint8_t*, kRowBlock> out;
    for (int64_t i = 0; i < kRowBlock; ++i) {
      const int64_t place = std::min(done_ + i, count - 1);
      const auto at = static_cast<std::size_t>(i);
      rows[at] = place == done_ + i ? readable_row(first + place, i) : rows[at - 1];
      out[at] = ring_row(place);
    }
    loops_.horizontal(rows.data(), scratch_.x, source_.channels, out.data());
    done_ += kRowBlock;
  }

  /// The row or, if too few bytes follow it, a copy.
  const uint8_t* readable_row(int64_t row, int64_t slot) {
    const uint8_t* const from = source_.data + row * source_.row_stride;
    const int64_t bytes = source_.width * source_.channels;
    const int64_t left = (source_.height - 1 - row) * source_.row_stride + bytes;
    if (left >= readable_) return from;
    uint8_t* const copy = scratch_.padded.data() + slot * readable_;
    std::memcpy(copy, from, static_cast<std::size_t>(std::min(bytes, readable_)));
    return copy;
  }

  /// Writes row `row` of the resized box wherever the result has it.
  void show(int64_t row, const uint8_t* pixels) {
    const int64_t rows = drawn_.resized.height, window = drawn_.window_top;
    const uint8_t* const line = with_padding(pixels);
    if (const int64_t y = row - window; y >= 0 && y < drawn_.out_height) write_line(y, line);
    if (mode_ == PaddingMode::constant) return;
    const auto repeat = [&](int64_t begin, int64_t end) {
      for (int64_t y = std::max<int64_t>(0, begin); y < std::min(drawn_.out_height, end); ++y) {
        if (padding_index(window + y, rows, mode_) == row) write_line(y, line);
      }
    };
    repeat(0, -window);
    repeat(rows - window, drawn_.out_height);
  }

  const uint8_t* with_padding(const uint8_t* pixels) {
    const int64_t left = drawn_.window_left, width = drawn_.out_width, columns = drawn_.resized.width;
    if (left >= 0 && left + width <= columns) return pixels;
    const int64_t channels = source_.channels, first = drawn_.shown_columns.begin;
    scratch_.line.resize(static_cast<std::size_t>(width * channels));
    for (int64_t x = 0; x < width; ++x) {
      uint8_t* const to = &scratch_.line[static_cast<std::size_t>(x * channels)];
      const int64_t column = padding_index(left + x, columns, mode_);
      for (int64_t c = 0; c < channels; ++c) to[c] = column < 0 ? filling(c) : pixels[(column - first) * channels + c];
    }
    return scratch_.line.data();
  }

  uint8_t filling(int64_t channel) const {
    return static_cast<uint8_t>(fill_[fill_.size() == 1 ? 0 : static_cast<std::size_t>(channel)]);
  }

  /// Rows of padding; all of them if no column of the image is shown.
  void fill_rows(bool shows_columns) {
    bool is_ready = false;
    for (int64_t y = 0; y < drawn_.out_height; ++y) {
      const int64_t row = drawn_.window_top + y;
      if (row >= 0 && row < drawn_.resized.height && shows_columns) continue;
      if (!is_ready) {
        scratch_.line.resize(static_cast<std::size_t>(drawn_.out_width * source_.channels));
        for (std::size_t i = 0; i < scratch_.line.size(); ++i) {
          scratch_.line[i] = filling(static_cast<int64_t>(i) % source_.channels);
        }
        is_ready = true;
      }
      write_line(y, scratch_.line.data());
    }
  }

  void write_line(int64_t y, const uint8_t* line) {
    const int64_t width = drawn_.out_width, plane = width * drawn_.out_height;
    const int64_t at = (drawn_.flip_vertical ? drawn_.out_height - 1 - y : y) * width;
    if (output_.levels) {
      loops_.to_levels(line, width, source_.channels, drawn_.flip_horizontal, output_.levels + at, plane);
    } else {
      loops_.to_floats(line, width, source_.channels, drawn_.flip_horizontal, output_.scale, output_.shift,
                       output_.floats + at, plane);
    }
  }

  const PixelView& source_;
  const DrawnImage& drawn_;
  PaddingMode mode_;
  const std::vector<double>& fill_;
  FusedOutput output_;
  const RowLoops& loops_;
  FusedScratch& scratch_;
  int64_t ring_rows_ = 0, ring_stride_ = 0;
  int64_t readable_ = 0;  ///< bytes of a row that may be read
  int64_t done_ = 0;      ///< rows that are resampled along x
};

void check_fused_arguments(const PixelView& source, const Box& box, const DrawnImage& drawn, torch::ScalarType type,
                           const torch::Tensor& row) {
  if (source.channels < 1 || source.height < 0 || source.width < 0 ||
      source.row_stride < source.width * source.channels || (!source.data && source.height * source.width > 0)) {
    throw UsageError("a source of " + size_text(source.height, source.width) + " pixels, " +
                     std::to_string(source.channels) + " channels and " + std::to_string(source.row_stride) +
                     " bytes a row is no image");
  }
  if (!std::isfinite(box.top) || !std::isfinite(box.left) || !(box.height > 0 && box.height < 1e9) ||
      !(box.width > 0 && box.width < 1e9) || std::abs(box.top) > 1e9 || std::abs(box.left) > 1e9) {
    throw UsageError("a box of " + std::to_string(box.height) + " by " + std::to_string(box.width) + " pixels at (" +
                     std::to_string(box.top) + ", " + std::to_string(box.left) + ") is none of an image");
  }
  const std::array<int64_t, 3> shape{source.channels, drawn.out_height, drawn.out_width};
  if (row.defined() && row.device().is_cpu() && row.scalar_type() == type && row.is_contiguous() &&
      row.sizes() == at::IntArrayRef(shape)) {
    return;
  }
  throw UsageError("the memory for an image of " + std::to_string(source.channels) + " channels is " + image_text(row) +
                   "; contiguous [" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ", " +
                   std::to_string(shape[2]) + "] of " + c10::toString(type) + " on the CPU was expected");
}

/// One value a channel.
void spread(const std::vector<float>& values, int64_t channels, std::vector<float>& out) {
  out.resize(static_cast<std::size_t>(channels));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = values[values.size() == 1 ? 0 : i];
}

}  // namespace

void FusedTransform::write(const PixelView& source, const Box& box_in_source, const DrawnImage& drawn,
                           torch::Tensor& row) const {
  check_fused_arguments(source, box_in_source, drawn, output_type(), row);
  static const std::vector<double> zero{0};
  const auto& fill = random_crop_ ? random_crop_->options().fill : zero;
  check_channel_values(fill.size(), source.channels, "the fill of RandomCrop");
  check_channel_values(scale_.size(), source.channels, "Normalize");
  thread_local FusedScratch scratch;
  spread(scale_, source.channels, scratch.scale);
  spread(shift_, source.channels, scratch.shift);
  const FusedOutput output{to_float_ ? nullptr : row.mutable_data_ptr<uint8_t>(),
                           to_float_ ? row.mutable_data_ptr<float>() : nullptr, scratch.scale.data(),
                           scratch.shift.data()};
  const auto mode = random_crop_ ? random_crop_->options().padding_mode : PaddingMode::constant;
  FusedPass(source, drawn, mode, fill, output, row_loops(), scratch).run(box_in_source);
}

}  // namespace troupe::transforms
