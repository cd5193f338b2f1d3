#include "troupe/runtime/capture/kernels.hpp"

#include "troupe/base/fast_loop.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::capture {

namespace {

constexpr int64_t most_columns = 64;  // that are added up at a time
constexpr int mt_size = at::MERSENNE_STATE_N, mt_shift = at::MERSENNE_STATE_M;

// One window at a time, whatever its shape.
void max_pool_plane(const MaxPool& p, const float* in, float* out, int64_t* indices) {
  const auto [height, width] = p.in;
  for (int64_t oh = 0; oh < p.out[0]; ++oh) {
    for (int64_t ow = 0; ow < p.out[1]; ++ow) {
      int64_t top = oh * p.stride[0] - p.padding[0], left = ow * p.stride[1] - p.padding[1];
      const int64_t bottom = std::min(top + (p.kernel[0] - 1) * p.dilation[0] + 1, height);
      const int64_t right = std::min(left + (p.kernel[1] - 1) * p.dilation[1] + 1, width);
      while (top < 0) top += p.dilation[0];
      while (left < 0) left += p.dilation[1];
      float most = -std::numeric_limits<float>::infinity();
      int64_t at = top * width + left;
      for (int64_t y = top; y < bottom; y += p.dilation[0]) {
        for (int64_t x = left; x < right; x += p.dilation[1]) {
          const float value = in[y * width + x];
          if (value > most || value != value) {
            most = value;
            at = y * width + x;
          }
        }
      }
      *out++ = most;
      *indices++ = at;
    }
  }
}

// Windows of two by two, side by side. `places`: that of each one's first number in its plane.
TROUPE_FAST_LOOP void max_pool_windows(const float* __restrict upper, const float* __restrict lower,
                                       const int64_t* __restrict places, int64_t width, int64_t count,
                                       float* __restrict out, int64_t* __restrict indices) {
  for (int64_t i = 0; i < count; ++i) {
    const float a = upper[2 * i], b = upper[2 * i + 1], c = lower[2 * i], d = lower[2 * i + 1];
    const int64_t first = places[i];
    float most = a;
    int64_t at = first;
    const bool takes_b = (b > most) | (b != b);
    most = takes_b ? b : most;
    at = takes_b ? first + 1 : at;
    const bool takes_c = (c > most) | (c != c);
    most = takes_c ? c : most;
    at = takes_c ? first + width : at;
    const bool takes_d = (d > most) | (d != d);
    most = takes_d ? d : most;
    at = takes_d ? first + width + 1 : at;
    out[i] = most;
    indices[i] = at;
  }
}

// The next numbers of the Mersenne Twister (Matsumoto & Nishimura 1998), untempered.
TROUPE_FAST_LOOP void twist(uint32_t* state) {
  const auto next = [](uint32_t u, uint32_t v) {
    const uint32_t y = (u & 0x80000000U) | (v & 0x7fffffffU);
    return (y >> 1) ^ ((v & 1U) ? 0x9908b0dfU : 0U);
  };
  for (int i = 0; i < mt_size - mt_shift; ++i) state[i] = state[i + mt_shift] ^ next(state[i], state[i + 1]);
  for (int i = mt_size - mt_shift; i < mt_size - 1; ++i) {
    state[i] = state[i + mt_shift - mt_size] ^ next(state[i], state[i + 1]);
  }
  state[mt_size - 1] = state[mt_shift - 1] ^ next(state[mt_size - 1], state[0]);
}

TROUPE_FAST_LOOP void temper(const uint32_t* __restrict state, uint32_t* __restrict out, int count) {
  for (int i = 0; i < count; ++i) {
    uint32_t y = state[i];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680U;
    y ^= (y << 15) & 0xefc60000U;
    out[i] = y ^ (y >> 18);
  }
}

// 53 bits of two numbers against those of p.
float is_below(uint64_t bound, uint32_t high, uint32_t low) {
  return ((static_cast<uint64_t>(high & 0x1fffffU) << 32) | low) < bound ? 1.0f : 0.0f;
}

TROUPE_FAST_LOOP void compare_pairs(const uint32_t* __restrict numbers, uint64_t bound, float* __restrict out,
                                    int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t value = (static_cast<uint64_t>(numbers[2 * i] & 0x1fffffU) << 32) | numbers[2 * i + 1];
    out[i] = static_cast<int64_t>(value) < static_cast<int64_t>(bound) ? 1.0f : 0.0f;
  }
}

TROUPE_FAST_LOOP void add_to(float* __restrict sums, const float* __restrict more, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += more[i];
}

TROUPE_FAST_LOOP void relu_loop(const float* __restrict in, float* __restrict out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = in[i] < 0 ? 0.0f : in[i];
}

// Rows are laid side by side, of as many planes as fit, unless each is whole vectors: a loop over one row would be too
// short for them.
void max_pool_by_two(const MaxPool& pool, const float* in, float* out, int64_t* indices) {
  constexpr int64_t most_windows = 2048, whole = 16;  // as numbers of the widest vectors
  const auto [height, width] = pool.in;
  const auto [rows, columns] = pool.out;
  const int64_t windows = rows * columns;
  if (windows == 0 || pool.planes == 0) return;
  const bool lies_side_by_side = columns % whole == 0;
  const int64_t planes = lies_side_by_side ? 1 : std::clamp<int64_t>(most_windows / windows, 1, pool.planes);
  std::vector<int64_t> places;
  places.reserve(static_cast<std::size_t>(planes * windows));
  for (int64_t row = 0; row < planes * rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) places.push_back(2 * (row % rows * width + column));
  }
  if (lies_side_by_side) {
    for (int64_t row = 0; row < pool.planes * rows; ++row) {
      const float* from = in + (row / rows * height + row % rows * 2) * width;
      max_pool_windows(from, from + width, places.data() + row % rows * columns, width, columns, out + row * columns,
                       indices + row * columns);
    }
    return;
  }
  std::vector<float> upper(static_cast<std::size_t>(2 * planes * windows)), lower(upper.size());
  for (int64_t plane = 0; plane < pool.planes; plane += planes) {
    const int64_t here = std::min(planes, pool.planes - plane);
    for (int64_t row = 0; row < here * rows; ++row) {
      const float* from = in + ((plane + row / rows) * height + row % rows * 2) * width;
      std::copy_n(from, 2 * columns, upper.data() + row * 2 * columns);
      std::copy_n(from + width, 2 * columns, lower.data() + row * 2 * columns);
    }
    max_pool_windows(upper.data(), lower.data(), places.data(), width, here * windows, out + plane * windows,
                     indices + plane * windows);
  }
}

}  // namespace

void max_pool(const MaxPool& pool, const float* in, float* out, int64_t* indices) {
  using Pair = std::array<int64_t, 2>;
  const bool is_two_by_two = pool.kernel == Pair{2, 2} && pool.stride == Pair{2, 2} && pool.padding == Pair{0, 0} &&
                             pool.dilation == Pair{1, 1} && 2 * pool.out[0] <= pool.in[0] &&
                             2 * pool.out[1] <= pool.in[1];
  if (is_two_by_two) {
    max_pool_by_two(pool, in, out, indices);
    return;
  }
  for (int64_t plane = 0; plane < pool.planes; ++plane) {
    max_pool_plane(pool, in, out, indices);
    in += pool.in[0] * pool.in[1];
    out += pool.out[0] * pool.out[1];
    indices += pool.out[0] * pool.out[1];
  }
}

void bernoulli(at::mt19937_data_pod& engine, double p, float* out, int64_t count) {
  const auto bound = static_cast<uint64_t>(std::ceil(p * 0x1p53));  // exact: u < p if 2^53 u < 2^53 p
  auto* state = engine.state_.data();
  std::array<uint32_t, mt_size> numbers;
  std::optional<uint32_t> high;  // the first of a pair that the end of a block divides
  while (count > 0) {
    if (engine.left_ == 1) {
      twist(state);
      engine.left_ = mt_size + 1;
      engine.next_ = 0;
    }
    const int wanted = static_cast<int>(std::min<int64_t>(2 * count - (high ? 1 : 0), engine.left_ - 1));
    temper(state + engine.next_, numbers.data(), wanted);
    engine.left_ -= wanted;
    engine.next_ += static_cast<uint32_t>(wanted);
    int used = 0;
    if (high) {
      *out++ = is_below(bound, *std::exchange(high, std::nullopt), numbers[0]);
      --count;
      used = 1;
    }
    const int pairs = (wanted - used) / 2;
    compare_pairs(numbers.data() + used, bound, out, pairs);
    out += pairs;
    count -= pairs;
    used += 2 * pairs;
    if (used < wanted) high = numbers[static_cast<std::size_t>(used)];
  }
}

// Rows at a distance of `stride`, fewer than 64 columns of them. Each level holds sums of blocks of the level below; a
// block is at least 16 rows.
void cascade_sum(const float* in, int64_t rows, int64_t stride, int64_t columns, float* out) {
  constexpr int levels = 4;
  int bits = 0;
  while ((int64_t{1} << bits) < rows) ++bits;
  const int power = std::max(4, bits / levels);
  const int64_t step = int64_t{1} << power;
  float sums[levels][most_columns] = {};
  int64_t row = 0;
  while (row + step <= rows) {
    for (const int64_t end = row + step; row < end; ++row) add_to(sums[0], in + row * stride, columns);
    for (int level = 1; level < levels; ++level) {
      add_to(sums[level], sums[level - 1], columns);
      std::fill_n(sums[level - 1], columns, 0.0f);
      if ((row & ((step - 1) << (level * power))) != 0) break;
    }
  }
  for (; row < rows; ++row) add_to(sums[0], in + row * stride, columns);
  for (int level = 1; level < levels; ++level) add_to(sums[0], sums[level], columns);
  std::copy_n(sums[0], columns, out);
}

// Four sums of every fourth row each, then theirs.
void interleaved_sum(const float* in, int64_t rows, int64_t stride, int64_t columns, float* out) {
  float parts[4][most_columns];
  const int64_t quarter = rows / 4;
  for (int i = 0; i < 4; ++i) cascade_sum(in + i * stride, quarter, 4 * stride, columns, parts[i]);
  for (int64_t row = 4 * quarter; row < rows; ++row) add_to(parts[0], in + row * stride, columns);
  for (int i = 1; i < 4; ++i) add_to(parts[0], parts[i], columns);
  std::copy_n(parts[0], columns, out);
}

// LibTorch adds up four vectors of columns at a time row by row (four columns if there is no whole vector), and the
// columns that are left by fours of rows.
void sum_rows(const float* in, int64_t rows, int64_t columns, int64_t vector, float* out) {
  int64_t at = 0;
  if (columns < vector) vector = 1;
  for (; at + 4 * vector <= columns; at += 4 * vector) cascade_sum(in + at, rows, columns, 4 * vector, out + at);
  for (; at < columns; at += vector) {
    interleaved_sum(in + at, rows, columns, std::min(vector, columns - at), out + at);
  }
}

void relu(const float* in, float* out, int64_t count) {
  relu_loop(in, out, count);
}

}  // namespace troupe::capture
