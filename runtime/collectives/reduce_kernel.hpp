// Reduces memory element by element, in a fixed order; what the in-memory transport and the exact paths of MPI share.
#pragma once

#include <ATen/core/TensorBase.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include <cstdint>
#include <span>

namespace troupe {

/// target[i] = sources[0][i] op sources[1][i] op ..., taken in that order, for `count` elements of `type`; AVG divides
/// the sum by the number of sources. `target` may be sources[0] and no other source. bfloat16 and half are computed in
/// float and rounded once, so that the error does not grow with the number of ranks (a sum of 256 equal values in
/// bfloat16, rounded at each step, stops growing: its mantissa has 8 bits). MIN and MAX give NaN where a source is NaN,
/// as LibTorch's do. The type is one that CollectiveBackend lets through. On the calling thread alone.
void reduce_elements(at::ScalarType type, c10d::ReduceOp::RedOpType op, std::span<const void* const> sources,
                     void* target, int64_t count);

/// target[i] = target[i] / divisor, for a floating-point type.
void divide_elements(at::ScalarType type, void* target, int64_t count, int64_t divisor);

}  // namespace troupe
