#include "troupe/runtime/data/transforms/resample_rows_avx2.hpp"

#if defined(__x86_64__)

#include <immintrin.h>
#include <cstring>

// The library is compiled for any x86-64 CPU. Without "fma", products and sums of floats stay separate, as in the plain
// version: the bits must not depend on the CPU.
#define TROUPE_AVX2 __attribute__((target("avx2")))

namespace troupe::transforms {

namespace {

void store_pixel(uint8_t* out, int value) {
  std::memcpy(out, &value, sizeof(value));
}

/// The 16 bytes at `from` in both halves.
TROUPE_AVX2 inline __m256i twice(const uint8_t* from) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

/// Four RGB rows. Each step takes four pixels of a row: the lower half of a register gets the first two of them, the
/// upper half the others, as pairs of 16-bit numbers (r0 r1 g0 g1 b0 b1) that one instruction multiplies by a pair of
/// weights and adds.
TROUPE_AVX2 void avx2_horizontal(const uint8_t* const* rows, const ResampleAxis& axis, int64_t channels,
                                 uint8_t* const* out) {
  if (channels != 3) return plain_row_loops().horizontal(rows, axis, channels, out);
  const __m256i pairs = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
                                         6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m256i halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
  const __m256i half = _mm256_set1_epi32(axis.precision > 0 ? 1 << (axis.precision - 1) : 0);
  const __m128i precision = _mm_cvtsi32_si128(axis.precision);
  const int16_t* weights = axis.weights.data();
  const int64_t* const start = axis.start.data();
  for (int64_t x = 0; x < axis.count; ++x, weights += axis.taps) {
    const int64_t offset = start[x] * 3;
    __m256i sum0 = _mm256_setzero_si256(), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    for (int64_t tap = 0; tap < axis.taps; tap += 4) {
      int64_t four = 0;
      std::memcpy(&four, weights + tap, sizeof(four));
      const __m256i weight = _mm256_permutevar8x32_epi32(_mm256_set1_epi64x(four), halves);
      const int64_t at = offset + tap * 3;
      const __m256i row0 = twice(rows[0] + at);
      const __m256i row1 = twice(rows[1] + at);
      const __m256i row2 = twice(rows[2] + at);
      const __m256i row3 = twice(rows[3] + at);
      sum0 = _mm256_add_epi32(sum0, _mm256_madd_epi16(_mm256_shuffle_epi8(row0, pairs), weight));
      sum1 = _mm256_add_epi32(sum1, _mm256_madd_epi16(_mm256_shuffle_epi8(row1, pairs), weight));
      sum2 = _mm256_add_epi32(sum2, _mm256_madd_epi16(_mm256_shuffle_epi8(row2, pairs), weight));
      sum3 = _mm256_add_epi32(sum3, _mm256_madd_epi16(_mm256_shuffle_epi8(row3, pairs), weight));
    }
    const __m256i sum01 =
        _mm256_add_epi32(_mm256_permute2x128_si256(sum0, sum1, 0x20), _mm256_permute2x128_si256(sum0, sum1, 0x31));
    const __m256i sum23 =
        _mm256_add_epi32(_mm256_permute2x128_si256(sum2, sum3, 0x20), _mm256_permute2x128_si256(sum2, sum3, 0x31));
    const __m256i words = _mm256_packs_epi32(_mm256_sra_epi32(_mm256_add_epi32(sum01, half), precision),
                                             _mm256_sra_epi32(_mm256_add_epi32(sum23, half), precision));
    const __m256i bytes = _mm256_packus_epi16(words, words);
    const __m128i even = _mm256_castsi256_si128(bytes), odd = _mm256_extracti128_si256(bytes, 1);
    // Four bytes each, of which the next pixel overwrites the last.
    store_pixel(out[0] + x * 3, _mm_cvtsi128_si32(even));
    store_pixel(out[1] + x * 3, _mm_cvtsi128_si32(odd));
    store_pixel(out[2] + x * 3, _mm_extract_epi32(even, 1));
    store_pixel(out[3] + x * 3, _mm_extract_epi32(odd, 1));
  }
}

/// 32 bytes at a time; two rows are interleaved, so that one instruction multiplies both by their weights and adds.
TROUPE_AVX2 void avx2_vertical(const uint8_t* const* rows, int64_t count, const int16_t* weights, int precision,
                               uint8_t* out, int64_t bytes) {
  const __m256i half = _mm256_set1_epi32(precision > 0 ? 1 << (precision - 1) : 0), zero = _mm256_setzero_si256();
  const __m128i shift = _mm_cvtsi32_si128(precision);
  int64_t x = 0;
  for (; x + 32 <= bytes; x += 32) {
    __m256i sum0 = half, sum1 = half, sum2 = half, sum3 = half;
    for (int64_t i = 0; i < count; i += 2) {
      const bool is_pair = i + 1 < count;
      const uint32_t both = static_cast<uint16_t>(weights[i]) |
                            (is_pair ? static_cast<uint32_t>(static_cast<uint16_t>(weights[i + 1])) << 16 : 0);
      const __m256i weight = _mm256_set1_epi32(static_cast<int>(both));
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + x));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[is_pair ? i + 1 : i] + x));
      const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
      sum0 = _mm256_add_epi32(sum0, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), weight));
      sum1 = _mm256_add_epi32(sum1, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), weight));
      sum2 = _mm256_add_epi32(sum2, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), weight));
      sum3 = _mm256_add_epi32(sum3, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), weight));
    }
    const __m256i low = _mm256_packs_epi32(_mm256_sra_epi32(sum0, shift), _mm256_sra_epi32(sum1, shift));
    const __m256i high = _mm256_packs_epi32(_mm256_sra_epi32(sum2, shift), _mm256_sra_epi32(sum3, shift));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), _mm256_packus_epi16(low, high));
  }
  for (; x < bytes; ++x) {
    int32_t sum = precision > 0 ? 1 << (precision - 1) : 0;
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * rows[i][x];
    sum >>= precision;
    out[x] = static_cast<uint8_t>(sum < 0 ? 0 : sum > 255 ? 255 : sum);
  }
}

struct Planes {
  __m128i channel[3];
};

/// 16 RGB pixels as three registers of one channel each, in reverse order if `flip`.
TROUPE_AVX2 inline Planes split_pixels(const uint8_t* row, bool flip) {
  const auto* const from = reinterpret_cast<const __m128i*>(row);
  const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1), c = _mm_loadu_si128(from + 2);
  const __m128i reverse = _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m128i masks[3][3] = {{_mm_setr_epi8(0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                                _mm_setr_epi8(-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1),
                                _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13)},
                               {_mm_setr_epi8(1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                                _mm_setr_epi8(-1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1),
                                _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14)},
                               {_mm_setr_epi8(2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
                                _mm_setr_epi8(-1, -1, -1, -1, -1, 1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1),
                                _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15)}};
  Planes out;
  for (int i = 0; i < 3; ++i) {
    out.channel[i] = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(a, masks[i][0]), _mm_shuffle_epi8(b, masks[i][1])),
                                  _mm_shuffle_epi8(c, masks[i][2]));
    if (flip) out.channel[i] = _mm_shuffle_epi8(out.channel[i], reverse);
  }
  return out;
}

/// Which pixels the loops over 16 leave to the plain version, and where those go: the last ones, mirrored the first.
struct Rest {
  const uint8_t* row;
  int64_t width, place;
};
Rest rest_of(const uint8_t* row, int64_t width, int64_t done, bool flip) {
  return {row + done * 3, width - done, flip ? 0 : done};
}

TROUPE_AVX2 void avx2_to_levels(const uint8_t* row, int64_t width, int64_t channels, bool flip, uint8_t* planes,
                                int64_t plane_stride) {
  if (channels != 3) return plain_row_loops().to_levels(row, width, channels, flip, planes, plane_stride);
  int64_t x = 0;
  for (; x + 16 <= width; x += 16) {
    const Planes pixels = split_pixels(row + x * 3, flip);
    uint8_t* const to = planes + (flip ? width - 16 - x : x);
    for (int c = 0; c < 3; ++c) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c * plane_stride), pixels.channel[c]);
    }
  }
  const auto [from, left, place] = rest_of(row, width, x, flip);
  if (left > 0) plain_row_loops().to_levels(from, left, 3, flip, planes + place, plane_stride);
}

TROUPE_AVX2 void avx2_to_floats(const uint8_t* row, int64_t width, int64_t channels, bool flip, const float* scale,
                                const float* shift, float* planes, int64_t plane_stride) {
  if (channels != 3) return plain_row_loops().to_floats(row, width, channels, flip, scale, shift, planes, plane_stride);
  int64_t x = 0;
  for (; x + 16 <= width; x += 16) {
    const Planes pixels = split_pixels(row + x * 3, flip);
    float* const to = planes + (flip ? width - 16 - x : x);
    for (int c = 0; c < 3; ++c) {
      const __m256 a = _mm256_set1_ps(scale[c]), b = _mm256_set1_ps(shift[c]);
      const __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(pixels.channel[c]));
      const __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(pixels.channel[c], 8)));
      _mm256_storeu_ps(to + c * plane_stride, _mm256_add_ps(_mm256_mul_ps(low, a), b));
      _mm256_storeu_ps(to + c * plane_stride + 8, _mm256_add_ps(_mm256_mul_ps(high, a), b));
    }
  }
  const auto [from, left, place] = rest_of(row, width, x, flip);
  if (left > 0) plain_row_loops().to_floats(from, left, 3, flip, scale, shift, planes + place, plane_stride);
}

}  // namespace

const RowLoops* avx2_row_loops() {
  static const RowLoops loops{avx2_horizontal, avx2_vertical, avx2_to_levels, avx2_to_floats};
  return __builtin_cpu_supports("avx2") ? &loops : nullptr;
}

}  // namespace troupe::transforms

#else

namespace troupe::transforms {

const RowLoops* avx2_row_loops() {
  return nullptr;
}

}  // namespace troupe::transforms

#endif
