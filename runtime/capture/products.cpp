// One operand lies along the vectors (its rows or columns are lanes), and each number of the other is multiplied with
// all of them. A tile of the result stays in registers for the terms of a block.
#include "troupe/runtime/capture/products.hpp"

#include <algorithm>
#include <array>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TROUPE_HAS_PRODUCTS 1
#include <immintrin.h>
// GCC's own header of intrinsics reads what it calls undefined.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#else
#define TROUPE_HAS_PRODUCTS 0
#endif

namespace troupe::capture {

#if TROUPE_HAS_PRODUCTS

namespace {

#define TROUPE_WIDE __attribute__((target("avx512f,avx512dq,avx512vl,fma"), optimize("O3", "fp-contract=off")))
#define TROUPE_WIDE_INLINE __attribute__((target("avx512f,avx512dq,avx512vl,fma"), always_inline)) inline

constexpr int64_t width = 16;               // numbers of a vector
constexpr int64_t panel_width = 4 * width;  // lanes that are computed at a time
constexpr int most_rows = 8;                // of a tile

// The product as the loops see it: along the lanes lies b, or a if the result is computed transposed.
struct Sides {
  int64_t rows = 0, depth = 0;
  const float* along = nullptr;
  int64_t along_step = 0, along_lane = 0;
  const float* across = nullptr;
  int64_t across_row = 0, across_step = 0;
};

// A tile of the result: so many rows of so many lanes.
struct Tile {
  const float* along;
  int64_t along_step;
  const float* across;
  int64_t across_row, across_step;
  int64_t depth;
  float* out;
  int64_t out_row;
  __mmask16 last;                                     // lanes of the last vector that are there
  enum class Begin { zero, lanes, rows, out } begin;  // with what the sum of the block is added up
  const float* start;
};

template <int Vectors>
TROUPE_WIDE_INLINE void load(const float* from, __mmask16 last, __m512 (&into)[Vectors]) {
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    into[v] = v + 1 < Vectors ? _mm512_loadu_ps(from + v * width) : _mm512_maskz_loadu_ps(last, from + v * width);
  }
}

template <int Rows, int Vectors>
TROUPE_WIDE_INLINE void finish(const Tile& tile, __m512 (&sums)[Rows][Vectors]) {
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const __mmask16 mask = v + 1 < Vectors ? static_cast<__mmask16>(0xffff) : tile.last;
      float* to = tile.out + r * tile.out_row + v * width;
      __m512 sum = sums[r][v];
      if (tile.begin == Tile::Begin::out) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum);
      if (tile.begin == Tile::Begin::lanes) {
        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, tile.start + v * width), sum);
      }
      if (tile.begin == Tile::Begin::rows) sum = _mm512_add_ps(_mm512_set1_ps(tile.start[r]), sum);
      _mm512_mask_storeu_ps(to, mask, sum);
    }
  }
}

template <int Rows, int Vectors>
TROUPE_WIDE void multiply_tile(const Tile& tile) {
  __m512 sums[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sums[r][v] = _mm512_setzero_ps();
  }
  const float* across[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) across[r] = tile.across + r * tile.across_row;
  const float* along = tile.along;
  for (int64_t k = 0; k < tile.depth; ++k) {
    __m512 lanes[Vectors];
    load<Vectors>(along, tile.last, lanes);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const __m512 factor = _mm512_set1_ps(*across[r]);
      across[r] += tile.across_step;
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = _mm512_fmadd_ps(factor, lanes[v], sums[r][v]);
    }
    along += tile.along_step;
  }
  finish<Rows, Vectors>(tile, sums);
}

using Loop = void (*)(const Tile&);

template <int Vectors, int... Rows>
constexpr std::array<Loop, most_rows + 1> loops(std::integer_sequence<int, Rows...>) {
  return {nullptr, multiply_tile<Rows + 1, Vectors>...};
}

// By vectors: as many sums as hide the time that a fused operation takes, and as fit into 32 registers.
constexpr std::array<int64_t, 5> rows_of_tile = {0, 8, 6, 6, 6};
constexpr std::array<std::array<Loop, most_rows + 1>, 5> tile_loops = {
    {{},
     loops<1>(std::make_integer_sequence<int, 8>()),
     loops<2>(std::make_integer_sequence<int, 6>()),
     loops<3>(std::make_integer_sequence<int, 6>()),
     loops<4>(std::make_integer_sequence<int, 6>())}};

// 16 x 16 numbers; `rows` and `columns` of them are there, what is missing becomes zero.
TROUPE_WIDE void transpose_block(const float* from, int64_t from_row, int rows, int columns, float* to, int64_t to_row,
                                 int to_columns) {
  const auto mask = static_cast<__mmask16>((1u << columns) - 1);
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = i < rows ? _mm512_maskz_loadu_ps(mask, from + i * from_row) : _mm512_setzero_ps();
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
    const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
    r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
    r[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
    r[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
  }
  const auto to_mask = static_cast<__mmask16>((1u << to_columns) - 1);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i < columns) _mm512_mask_storeu_ps(to + i * to_row, to_mask, r[i]);
  }
}

void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row,
               bool pads) {
  for (int64_t i = 0; i < rows; i += width) {
    const int here = static_cast<int>(std::min(width, rows - i));
    for (int64_t j = 0; j < columns; j += width) {
      transpose_block(from + i * from_row + j, from_row, here, static_cast<int>(std::min(width, columns - j)),
                      to + j * to_row + i, to_row, pads ? static_cast<int>(width) : here);
    }
  }
}

// One panel of lanes, all rows and terms, into `out`, where lanes lie side by side. `packed`: room for a block's lanes.
void multiply_panel(const Sides& sides, int64_t block, int64_t first, int64_t count, Tile::Begin begin,
                    const float* start, float* out, int64_t out_row, float* packed) {
  const auto vectors = static_cast<std::size_t>((count + width - 1) / width);
  const int64_t group = rows_of_tile[vectors];
  const int64_t last = count - (static_cast<int64_t>(vectors) - 1) * width;
  Tile tile;
  tile.across_row = sides.across_row;
  tile.across_step = sides.across_step;
  tile.out_row = out_row;
  tile.last = static_cast<__mmask16>((1u << last) - 1);
  for (int64_t k = 0; k < sides.depth; k += block) {
    tile.depth = std::min(block, sides.depth - k);
    tile.along = sides.along + k * sides.along_step + first * sides.along_lane;
    tile.along_step = sides.along_step;
    if (sides.along_lane != 1) {
      transpose(tile.along, sides.along_lane, count, tile.depth, packed, panel_width, /*pads=*/true);
      tile.along = packed;
      tile.along_step = panel_width;
    }
    tile.begin = k == 0 ? begin : Tile::Begin::out;
    for (int64_t r = 0; r < sides.rows; r += group) {
      tile.across = sides.across + r * sides.across_row + k * sides.across_step;
      tile.out = out + r * out_row;
      tile.start = begin == Tile::Begin::rows ? start + r : start;
      tile_loops[vectors][static_cast<std::size_t>(std::min(group, sides.rows - r))](tile);
    }
  }
}

}  // namespace

bool can_multiply() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

bool flushes_denormals() {
  constexpr unsigned results = 0x8000, operands = 0x0040;  // of the register for control and status
  return (_mm_getcsr() & (results | operands)) != 0;
}

void multiply(const MatrixProduct& p, int64_t block, const float* a, const float* b, const float* start, float* out,
              std::vector<float>& room) {
  const auto widened = [](int64_t lanes) { return (lanes + width - 1) / width * width; };
  block = std::min(block, p.depth);
  const bool is_a_turned = p.a_row != 1, is_b_turned = p.b_column != 1;
  // What each way costs, in vectors that are multiplied and numbers that are moved.
  const int64_t by_columns = widened(p.columns) * p.rows * p.depth / width + (is_b_turned ? p.columns * p.depth : 0);
  const int64_t by_rows =
      widened(p.rows) * p.columns * p.depth / width + (is_a_turned ? p.rows * p.depth : 0) + p.rows * p.columns;
  if (by_columns <= by_rows) {
    const Sides sides{p.rows, p.depth, b, p.b_step, p.b_column, a, p.a_row, p.a_step};
    if (is_b_turned) room.resize(static_cast<std::size_t>(block * panel_width));
    for (int64_t lane = 0; lane < p.columns; lane += panel_width) {
      multiply_panel(sides, block, lane, std::min(panel_width, p.columns - lane),
                     start ? Tile::Begin::lanes : Tile::Begin::zero, start ? start + lane : nullptr, out + lane,
                     p.out_row, room.data());
    }
    return;
  }
  const Sides sides{p.columns, p.depth, a, p.a_step, p.a_row, b, p.b_column, p.b_step};
  room.resize(static_cast<std::size_t>((block + p.columns) * panel_width));
  float* turned = room.data() + block * panel_width;
  for (int64_t lane = 0; lane < p.rows; lane += panel_width) {
    const int64_t count = std::min(panel_width, p.rows - lane);
    multiply_panel(sides, block, lane, count, start ? Tile::Begin::rows : Tile::Begin::zero, start, turned, panel_width,
                   room.data());
    transpose(turned, panel_width, p.columns, count, out + lane * p.out_row, p.out_row, /*pads=*/false);
  }
}

#pragma GCC diagnostic pop

#undef TROUPE_WIDE
#undef TROUPE_WIDE_INLINE

#else

bool can_multiply() {
  return false;
}

bool flushes_denormals() {
  return false;
}

void multiply(const MatrixProduct&, int64_t, const float*, const float*, const float*, float*, std::vector<float>&) {}

#endif

}  // namespace troupe::capture
