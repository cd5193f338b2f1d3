// Vectors of floats, for loops that are compiled for several generations of processors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

// What a function of these loops is compiled for; which of them runs is decided when weights are packed.
#if defined(__x86_64__) && defined(__GNUC__)
#define TROUPE_HAS_WIDE_VECTORS 1
#define TROUPE_FOR_AVX512 __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")))
#define TROUPE_FOR_AVX2 __attribute__((target("avx2,fma")))
#else
#define TROUPE_HAS_WIDE_VECTORS 0
#define TROUPE_FOR_AVX512
#define TROUPE_FOR_AVX2
#endif
#define TROUPE_INLINE inline __attribute__((always_inline))

namespace troupe::inference {

/// `Width` floats that are treated at once; anywhere in memory.
template <int Width>
struct Floats {
  typedef float Type __attribute__((vector_size(Width * sizeof(float)), aligned(sizeof(float)), may_alias));
};

/// Zeros at first, from the beginning of a line of the cache on, so that no vector lies in two.
class AlignedFloats {
 public:
  AlignedFloats() = default;
  explicit AlignedFloats(int64_t count)
      : floats_(new (std::align_val_t(line)) float[static_cast<std::size_t>(count)]()) {}
  float* data() const { return floats_.get(); }

 private:
  static constexpr std::size_t line = 64;
  struct Delete {
    void operator()(float* floats) const { operator delete[](floats, std::align_val_t(line)); }
  };
  std::unique_ptr<float[], Delete> floats_;
};

/// Weights [outputs, inputs] in panels of `panel` outputs, the last one with zeros: for each input those of its
/// outputs.
inline AlignedFloats panels_of(const float* weights, int64_t outputs, int64_t inputs, int64_t panel) {
  AlignedFloats out((outputs + panel - 1) / panel * panel * inputs);
  for (int64_t o = 0; o < outputs; ++o) {
    float* to = out.data() + (o / panel) * panel * inputs + o % panel;
    for (int64_t k = 0; k < inputs; ++k) to[k * panel] = weights[o * inputs + k];
  }
  return out;
}

/// The bias of those panels; null stands for zeros.
inline AlignedFloats padded_bias(const float* bias, int64_t outputs, int64_t panel) {
  AlignedFloats out((outputs + panel - 1) / panel * panel);
  if (bias) std::copy_n(bias, outputs, out.data());
  return out;
}

/// How many floats a vector of this processor has: 16 (AVX-512), 8 (AVX2) or 4.
inline int vector_width() {
#if TROUPE_HAS_WIDE_VECTORS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw")) {
    return 16;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
  return 4;
}

}  // namespace troupe::inference
