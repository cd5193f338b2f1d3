#include "troupe/runtime/inference/packed_convolutions.hpp"

#include "troupe/runtime/inference/vectors.hpp"

#include <algorithm>
#include <array>
#include <utility>

#if TROUPE_HAS_WIDE_VECTORS
#include <immintrin.h>
#endif

namespace troupe::inference {

namespace {

/// Neighbouring pixels of one row, and the channels of one block.
struct ConvolutionTile {
  const float* in;  // of the first pixel
  const int64_t* offsets;
  int64_t count;  // of offsets
  const float* weights;
  const float* bias;
  float* out;  // pixel after pixel
};
using ConvolutionKernel = void (*)(const ConvolutionTile&);

template <int Width, int Pixels, int Vectors>
TROUPE_INLINE void convolution_tile(const ConvolutionTile& tile) {
  using Vector = typename Floats<Width>::Type;
  Vector sums[Pixels][Vectors];
#pragma GCC unroll 32
  for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) sums[p][v] = *reinterpret_cast<const Vector*>(tile.bias + v * Width);
  }
  const float* weights = tile.weights;
  for (int64_t k = 0; k < tile.count; ++k, weights += Vectors * Width) {
    const float* in = tile.in + tile.offsets[k];
    Vector w[Vectors];
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) w[v] = *reinterpret_cast<const Vector*>(weights + v * Width);
#pragma GCC unroll 32
    for (int p = 0; p < Pixels; ++p) {
      const float x = in[p];
#pragma GCC unroll 32
      for (int v = 0; v < Vectors; ++v) sums[p][v] += x * w[v];
    }
  }
#pragma GCC unroll 32
  for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) {
      *reinterpret_cast<Vector*>(tile.out + (p * Vectors + v) * Width) = sums[p][v];
    }
  }
}

template <int Pixels, int Vectors>
TROUPE_FOR_AVX512 void convolution_tile_avx512(const ConvolutionTile& tile) {
  convolution_tile<16, Pixels, Vectors>(tile);
}
template <int Pixels, int Vectors>
TROUPE_FOR_AVX2 void convolution_tile_avx2(const ConvolutionTile& tile) {
  convolution_tile<8, Pixels, Vectors>(tile);
}
template <int Pixels, int Vectors>
void convolution_tile_plain(const ConvolutionTile& tile) {
  convolution_tile<4, Pixels, Vectors>(tile);
}

/// Kernels for 1 pixel to as many as the registers hold sums of.
struct ConvolutionKernels {
  std::array<ConvolutionKernel, 14> kernels;
  int64_t most_pixels;
};

template <int Vectors, int... Pixels>
constexpr ConvolutionKernels convolutions_avx512(std::integer_sequence<int, Pixels...>) {
  return {{convolution_tile_avx512<Pixels + 1, Vectors>...}, sizeof...(Pixels)};
}
template <int Vectors, int... Pixels>
constexpr ConvolutionKernels convolutions_avx2(std::integer_sequence<int, Pixels...>) {
  return {{convolution_tile_avx2<Pixels + 1, Vectors>...}, sizeof...(Pixels)};
}
template <int Vectors, int... Pixels>
constexpr ConvolutionKernels convolutions_plain(std::integer_sequence<int, Pixels...>) {
  return {{convolution_tile_plain<Pixels + 1, Vectors>...}, sizeof...(Pixels)};
}

const ConvolutionKernels& convolution_kernels(int width, int64_t vectors) {
  using Few = std::make_integer_sequence<int, 6>;
  using Some = std::make_integer_sequence<int, 12>;
  using Many = std::make_integer_sequence<int, 14>;
  static constexpr ConvolutionKernels wide[] = {convolutions_avx512<1>(Many()), convolutions_avx512<2>(Many())};
  static constexpr ConvolutionKernels medium[] = {convolutions_avx2<1>(Some()), convolutions_avx2<2>(Few())};
  static constexpr ConvolutionKernels narrow[] = {convolutions_plain<1>(Some()), convolutions_plain<2>(Few())};
  const auto index = static_cast<std::size_t>(vectors - 1);
  return width == 16 ? wide[index] : width == 8 ? medium[index] : narrow[index];
}

/// A row of pixels with their channels, or two of them, on their way to the target.
struct FinishedRow {
  float* pixels;
  int64_t block;  // numbers of a pixel, of which `channels` count
  int64_t channels, width;
  float* to;
  int64_t plane;
  bool has_relu, has_pool;
};

// The maximum of each two by two; of NaNs the last, as in LibTorch. It replaces the first row.
void pool_pixels(const FinishedRow& row) {
  using Vector = Floats<4>::Type;
  const int64_t lower = row.width * row.block;
  for (int64_t x = 0; x < row.width / 2; ++x) {
    for (int64_t i = 0; i < row.block; i += 4) {
      const float* from = row.pixels + 2 * x * row.block + i;
      Vector most = *reinterpret_cast<const Vector*>(from);
      const auto take = [&](const float* at) __attribute__((always_inline)) {
        const Vector value = *reinterpret_cast<const Vector*>(at);
        most = value > most ? value : most;
        most = value != value ? value : most;
      };
      take(from + row.block);
      take(from + lower);
      take(from + lower + row.block);
      *reinterpret_cast<Vector*>(row.pixels + x * row.block + i) = most;
    }
  }
}

// The same; comparisons of long vectors are compiled well in this form only.
#if TROUPE_HAS_WIDE_VECTORS
TROUPE_FOR_AVX512 void pool_pixels_avx512(const FinishedRow& row) {
  const int64_t lower = row.width * row.block;
  for (int64_t x = 0; x < row.width / 2; ++x) {
    for (int64_t i = 0; i < row.block; i += 16) {
      const float* from = row.pixels + 2 * x * row.block + i;
      __m512 most = _mm512_loadu_ps(from);
      for (const float* at : {from + row.block, from + lower, from + lower + row.block}) {
        const __m512 value = _mm512_loadu_ps(at);
        most = _mm512_maskz_max_ps(0xffff, value, most);  // the second if one is NaN
        most = _mm512_mask_mov_ps(most, _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q), value);
      }
      _mm512_storeu_ps(row.pixels + x * row.block + i, most);
    }
  }
}
#else
void pool_pixels_avx512(const FinishedRow& row) {
  pool_pixels(row);
}
#endif

// Channels side by side become rows of planes, four by four.
void spread_pixels(const FinishedRow& row, int64_t width) {
  using Four = Floats<4>::Type;
  const auto relu = [&](Four value) __attribute__((always_inline)) {
    return row.has_relu ? (value < 0 ? Four{} : value) : value;
  };
  int64_t c = 0;
  for (; c + 4 <= row.channels; c += 4) {
    float* to = row.to + c * row.plane;
    const float* from = row.pixels + c;
    int64_t x = 0;
    for (; x + 4 <= width; x += 4, from += 4 * row.block) {
      const auto load = [&](int64_t i) __attribute__((always_inline)) {
        return relu(*reinterpret_cast<const Four*>(from + i * row.block));
      };
      typedef int Order __attribute__((vector_size(16)));
      const Four a = load(0), b = load(1), c4 = load(2), d = load(3);
      const Four ab_low = __builtin_shuffle(a, b, Order{0, 4, 1, 5}),
                 ab_high = __builtin_shuffle(a, b, Order{2, 6, 3, 7});
      const Four cd_low = __builtin_shuffle(c4, d, Order{0, 4, 1, 5});
      const Four cd_high = __builtin_shuffle(c4, d, Order{2, 6, 3, 7});
      *reinterpret_cast<Four*>(to + x) = __builtin_shuffle(ab_low, cd_low, Order{0, 1, 4, 5});
      *reinterpret_cast<Four*>(to + row.plane + x) = __builtin_shuffle(ab_low, cd_low, Order{2, 3, 6, 7});
      *reinterpret_cast<Four*>(to + 2 * row.plane + x) = __builtin_shuffle(ab_high, cd_high, Order{0, 1, 4, 5});
      *reinterpret_cast<Four*>(to + 3 * row.plane + x) = __builtin_shuffle(ab_high, cd_high, Order{2, 3, 6, 7});
    }
    for (; x < width; ++x, from += row.block) {
      const Four value = relu(*reinterpret_cast<const Four*>(from));
      for (int i = 0; i < 4; ++i) to[i * row.plane + x] = value[i];
    }
  }
  for (; c < row.channels; ++c) {
    for (int64_t x = 0; x < width; ++x) {
      const float value = row.pixels[x * row.block + c];
      row.to[c * row.plane + x] = row.has_relu && value < 0 ? 0.0F : value;
    }
  }
}

}  // namespace

void PackedConvolutions::append(const Convolution& shape, const float* weight, const float* bias) {
  width_ = vector_width();
  Stage stage;
  stage.shape = shape;
  const int64_t vectors = shape.out_channels > width_ ? 2 : 1;
  stage.block = vectors * width_;
  stage.row = shape.in[1] + 2 * shape.padding[1];
  stage.plane = (shape.in[0] + 2 * shape.padding[0]) * stage.row;
  stage.begin = stages_.empty() ? 0 : stages_.back().begin + stages_.back().numbers;
  stage.numbers = (shape.in_channels * stage.plane + 15) / 16 * 16;  // whole lines of the cache
  for (int64_t c = 0; c < shape.in_channels; ++c) {
    for (int64_t y = 0; y < shape.kernel[0]; ++y) {
      for (int64_t x = 0; x < shape.kernel[1]; ++x) {
        stage.offsets.push_back(c * stage.plane + y * shape.dilation[0] * stage.row + x * shape.dilation[1]);
      }
    }
  }
  const auto count = static_cast<int64_t>(stage.offsets.size());
  stage.weights = panels_of(weight, shape.out_channels, count, stage.block);
  stage.bias = padded_bias(bias, shape.out_channels, stage.block);
  rows_numbers_ = std::max(rows_numbers_, 2 * shape.convolved()[1] * stage.block);
  stages_.push_back(std::move(stage));
}

AlignedFloats PackedConvolutions::scratch() const {
  const auto& last = stages_.back();
  return AlignedFloats(last.begin + last.numbers + rows_numbers_);
}

// Zeros around each plane are there already.
void PackedConvolutions::pad(const Stage& stage, const float* in, float* padded) const {
  const auto& shape = stage.shape;
  for (int64_t c = 0; c < shape.in_channels; ++c) {
    float* to = padded + c * stage.plane + shape.padding[0] * stage.row + shape.padding[1];
    for (int64_t y = 0; y < shape.in[0]; ++y, in += shape.in[1]) std::copy_n(in, shape.in[1], to + y * stage.row);
  }
}

void PackedConvolutions::run_stage(const Stage& stage, const float* padded, const Target& target, float* rows) const {
  const auto& shape = stage.shape;
  const int64_t width = shape.convolved()[1], step = shape.has_pool ? 2 : 1;
  const auto count = static_cast<int64_t>(stage.offsets.size());
  const auto& [kernels, most_pixels] = convolution_kernels(width_, stage.block / width_);
  const int64_t tiles = (width + most_pixels - 1) / most_pixels;
  for (int64_t channel = 0; channel < shape.out_channels; channel += stage.block) {
    ConvolutionTile tile{
        nullptr, stage.offsets.data(), count, stage.weights.data() + channel * count, stage.bias.data() + channel,
        nullptr};
    const int64_t channels = std::min(stage.block, shape.out_channels - channel);
    for (int64_t y = 0; y < shape.out()[0]; ++y) {
      for (int64_t inner = 0; inner < step; ++inner) {
        for (int64_t i = 0, x = 0; i < tiles; ++i) {
          const int64_t pixels = (width - x) / (tiles - i);
          tile.in = padded + (y * step + inner) * stage.row + x;
          tile.out = rows + (inner * width + x) * stage.block;
          kernels[static_cast<std::size_t>(pixels - 1)](tile);
          x += pixels;
        }
      }
      const FinishedRow row{
          rows,         stage.block,    channels,      width, target.at + channel * target.plane + y * target.row,
          target.plane, shape.has_relu, shape.has_pool};
      if (shape.has_pool) width_ == 16 ? pool_pixels_avx512(row) : pool_pixels(row);
      spread_pixels(row, shape.out()[1]);
    }
  }
}

void PackedConvolutions::run(const float* in, float* out, int64_t samples, const AlignedFloats& scratch) const {
  const auto& last = stages_.back();
  float* rows = scratch.data() + last.begin + last.numbers;
  const auto [height, width] = last.shape.out();
  for (int64_t n = 0; n < samples; ++n) {
    pad(stages_.front(), in + n * stages_.front().shape.in_numbers(), scratch.data());
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      Target target{out + n * last.shape.out_numbers(), width, height * width};
      if (i + 1 < stages_.size()) {
        const Stage& next = stages_[i + 1];
        const auto& padding = next.shape.padding;
        target = {scratch.data() + next.begin + padding[0] * next.row + padding[1], next.row, next.plane};
      }
      run_stage(stages_[i], scratch.data() + stages_[i].begin, target, rows);
    }
  }
}

}  // namespace troupe::inference
