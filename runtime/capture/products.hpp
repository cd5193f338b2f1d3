// Products of matrices whose terms are added up in a given order, by vectors of 512 bits.
#pragma once

#include <cstdint>
#include <vector>

namespace troupe::capture {

/// out[i, j] = start[j] + the sum over k of a[i, k] b[k, j]. Strides count elements; `out` has no gaps in its rows.
struct MatrixProduct {
  int64_t rows = 0, columns = 0, depth = 0;
  int64_t a_row = 0, a_step = 0;     ///< of a, from row to row and from term to term
  int64_t b_step = 0, b_column = 0;  ///< of b, from term to term and from column to column
  int64_t out_row = 0;

  auto operator<=>(const MatrixProduct&) const = default;
};

/// Whether this processor, and the compiler that built this, have what `multiply` needs: AVX-512.
bool can_multiply();

/// Whether this thread takes denormal numbers for 0 (at::Context::setFlushDenormal, which sets it for one thread).
bool flushes_denormals();

/// Each number of the result is a sum of its own, so that the width of vectors has no part in its bits: `block` terms
/// one after another from zero, by fused operations, then that sum is added to what came before, and so on.
/// `start`: a number for each column; nullptr: none, and what lies in `out` is not read.
/// `room`: memory that a call needs, kept from one to the next. One thread.
void multiply(const MatrixProduct& product, int64_t block, const float* a, const float* b, const float* start,
              float* out, std::vector<float>& room);

}  // namespace troupe::capture
