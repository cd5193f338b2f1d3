// Loops over memory: LibTorch's results to the bit, in less time.
#pragma once

#include <ATen/core/MT19937RNGEngine.h>

#include <array>
#include <cstdint>

namespace troupe::capture {

/// Max pooling of planes in plain memory (rows of rows). Sizes are {height, width}.
struct MaxPool {
  std::array<int64_t, 2> kernel, stride, padding, dilation, in, out;
  int64_t planes = 0;
};

/// The maximum of each window and its place in the plane. Of equal values the first counts, of NaNs the last, as in
/// LibTorch's max_pool2d_with_indices, which takes ten times as long for memory that is not channels-last.
void max_pool(const MaxPool& pool, const float* in, float* out, int64_t* indices);

/// 1 with probability `p`, else 0: two numbers of the engine per element, of which the lowest 53 bits count, as
/// LibTorch's bernoulli_ draws them one by one, in a fifth of its time. The engine moves on by 2 `count` numbers.
void bernoulli(at::mt19937_data_pod& engine, double p, float* out, int64_t count);

/// Sums of the columns of [rows, columns] in plain memory, added up in the order of LibTorch's sum over the first
/// dimension by one thread: cascade sums of blocks of rows, against the growth of rounding errors. `vector`: numbers
/// that LibTorch's kernel for this processor treats at once, 16 at most.
void sum_rows(const float* in, int64_t rows, int64_t columns, int64_t vector, float* out);

/// The greater of each element and 0; NaN stays, and so does -0.
void relu(const float* in, float* out, int64_t count);

}  // namespace troupe::capture
