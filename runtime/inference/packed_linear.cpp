#include "troupe/runtime/inference/packed_linear.hpp"

#include "troupe/runtime/inference/vectors.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace troupe::inference {

namespace {

/// A tile of the product: some rows, and the outputs of one panel.
struct LinearTile {
  const float* in;
  const float* weights;
  const float* bias;
  float* out;
  int64_t inputs, outputs;  // also the distances between rows
  int64_t columns;          // of the panel that there are
  int64_t first, last;      // inputs that are added up
  float* partial;           // where sums are that have begun, a panel for each row
};
using LinearKernel = void (*)(const LinearTile&);

// Sums stay in registers. Where a tile has few of them, several run side by side over every other input, since an
// addition takes longer than the next one may start.
template <int Width, int Rows, int Vectors, int Lanes>
TROUPE_INLINE void linear_tile(const LinearTile& tile) {
  using Vector = typename Floats<Width>::Type;
  Vector sums[Lanes][Rows][Vectors];
#pragma GCC unroll 32
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) {
      const float* start = tile.first == 0 ? tile.bias : tile.partial + r * Vectors * Width;
      sums[0][r][v] = *reinterpret_cast<const Vector*>(start + v * Width);
#pragma GCC unroll 32
      for (int l = 1; l < Lanes; ++l) sums[l][r][v] = Vector{};
    }
  }
  const auto add = [&](int64_t k, int l) __attribute__((always_inline)) {
    const float* weights = tile.weights + k * Vectors * Width;
    Vector w[Vectors];
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) w[v] = *reinterpret_cast<const Vector*>(weights + v * Width);
#pragma GCC unroll 32
    for (int r = 0; r < Rows; ++r) {
      const float x = tile.in[r * tile.inputs + k];
#pragma GCC unroll 32
      for (int v = 0; v < Vectors; ++v) sums[l][r][v] += x * w[v];
    }
  };
  int64_t k = tile.first;
  for (; k + Lanes <= tile.last; k += Lanes) {
#pragma GCC unroll 32
    for (int l = 0; l < Lanes; ++l) add(k + l, l);
  }
  for (; k < tile.last; ++k) add(k, 0);
  const bool is_done = tile.last == tile.inputs;
#pragma GCC unroll 32
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 32
    for (int v = 0; v < Vectors; ++v) {
      Vector sum = sums[0][r][v];
#pragma GCC unroll 32
      for (int l = 1; l < Lanes; ++l) sum += sums[l][r][v];
      if (!is_done) {
        *reinterpret_cast<Vector*>(tile.partial + (r * Vectors + v) * Width) = sum;
        continue;
      }
      float* out = tile.out + r * tile.outputs + v * Width;
      const int64_t left = tile.columns - v * Width;
      if (left >= Width) {
        *reinterpret_cast<Vector*>(out) = sum;
      } else {
        for (int64_t i = 0; i < left; ++i) out[i] = sum[i];
      }
    }
  }
}

constexpr int lanes_of(int sums) {
  return sums >= 12 ? 1 : sums >= 6 ? 2 : sums >= 3 ? 4 : 8;
}

template <int Rows, int Vectors>
TROUPE_FOR_AVX512 void linear_tile_avx512(const LinearTile& tile) {
  linear_tile<16, Rows, Vectors, lanes_of(Rows * Vectors)>(tile);
}
template <int Rows, int Vectors>
TROUPE_FOR_AVX2 void linear_tile_avx2(const LinearTile& tile) {
  linear_tile<8, Rows, Vectors, lanes_of(Rows * Vectors)>(tile);
}
template <int Rows, int Vectors>
void linear_tile_plain(const LinearTile& tile) {
  linear_tile<4, Rows, Vectors, lanes_of(Rows * Vectors)>(tile);
}

/// Kernels for 1 row to as many as the registers hold sums of.
struct LinearKernels {
  std::array<LinearKernel, 8> kernels;
  int64_t most_rows;
};

template <int Vectors, int... Rows>
constexpr LinearKernels kernels_avx512(std::integer_sequence<int, Rows...>) {
  return {{linear_tile_avx512<Rows + 1, Vectors>...}, sizeof...(Rows)};
}
template <int Vectors, int... Rows>
constexpr LinearKernels kernels_avx2(std::integer_sequence<int, Rows...>) {
  return {{linear_tile_avx2<Rows + 1, Vectors>...}, sizeof...(Rows)};
}
template <int Vectors, int... Rows>
constexpr LinearKernels kernels_plain(std::integer_sequence<int, Rows...>) {
  return {{linear_tile_plain<Rows + 1, Vectors>...}, sizeof...(Rows)};
}
template <int Count>
using Numbers = std::make_integer_sequence<int, Count>;

const LinearKernels& linear_kernels(int width, int64_t vectors) {
  static constexpr LinearKernels wide[] = {kernels_avx512<1>(Numbers<8>()), kernels_avx512<2>(Numbers<8>()),
                                           kernels_avx512<4>(Numbers<6>())};
  static constexpr LinearKernels medium[] = {kernels_avx2<1>(Numbers<6>()), kernels_avx2<2>(Numbers<6>())};
  static constexpr LinearKernels narrow[] = {kernels_plain<1>(Numbers<6>()), kernels_plain<2>(Numbers<4>())};
  const auto index = static_cast<std::size_t>(vectors / 2);
  return width == 16 ? wide[index] : width == 8 ? medium[index] : narrow[index];
}

// Vectors of four: comparisons of longer ones are not compiled well.
void drop_negatives(float* numbers, int64_t count) {
  using Four = Floats<4>::Type;
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    auto& four = *reinterpret_cast<Four*>(numbers + i);
    four = four < 0 ? Four{} : four;
  }
  for (; i < count; ++i) numbers[i] = numbers[i] < 0 ? 0.0F : numbers[i];
}

}  // namespace

PackedLinear::PackedLinear(const float* weight, const float* bias, int64_t outputs, int64_t inputs)
    : width_(vector_width()), outputs_(outputs), inputs_(inputs) {
  const int64_t most_vectors = width_ == 16 ? 4 : 2;
  int64_t vectors = 1;
  while (vectors < most_vectors && vectors * width_ < outputs) vectors *= 2;
  panel_ = vectors * width_;
  weights_ = panels_of(weight, outputs, inputs, panel_);
  bias_ = padded_bias(bias, outputs, panel_);
}

// Weights that several tiles need are taken in pieces that stay in the cache of the first level.
void PackedLinear::run(const float* in, float* out, int64_t rows, bool has_relu) const {
  constexpr int64_t most_rows_at_once = 48, inputs_at_once = 128, widest_panel = 64;
  alignas(64) std::array<float, most_rows_at_once * widest_panel> partial;
  const auto& [kernels, most_rows] = linear_kernels(width_, panel_ / width_);
  for (; rows > 0; in += most_rows_at_once * inputs_, out += most_rows_at_once * outputs_, rows -= most_rows_at_once) {
    const int64_t some_rows = std::min(rows, most_rows_at_once);
    const int64_t tiles = (some_rows + most_rows - 1) / most_rows;
    const int64_t step = tiles == 1 ? inputs_ : inputs_at_once;
    for (int64_t column = 0; column < outputs_; column += panel_) {
      for (int64_t first = 0; first < inputs_; first += step) {
        for (int64_t i = 0, row = 0; i < tiles; ++i) {
          const int64_t count = (some_rows - row) / (tiles - i);
          kernels[static_cast<std::size_t>(count - 1)](
              {in + row * inputs_, weights_.data() + column * inputs_, bias_.data() + column,
               out + row * outputs_ + column, inputs_, outputs_, std::min(panel_, outputs_ - column), first,
               std::min(first + step, inputs_), partial.data() + row * panel_});
          row += count;
        }
      }
    }
    if (has_relu) drop_negatives(out, some_rows * outputs_);
  }
}

}  // namespace troupe::inference
