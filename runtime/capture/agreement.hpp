// Whether two steps did the same.
#pragma once

#include "troupe/runtime/capture/recording.hpp"

#include <torch/types.h>

#include <string>

namespace troupe::capture {

/// Why a replay of one would not be the other: the first operator, shape, type, stride or number that differs, with
/// both values; empty: they agree. What both were given has to have come in the same order. A tensor that somebody else
/// keeps is the same if it is the same memory, and one that is made anew in each step if it has the same content.
std::string difference(const Recording& first, const Recording& second);
/// Whether tensors are of one type and shape with the same bytes in order: a NaN is equal to one of the same bits, 0
/// and -0 differ. Two undefined tensors are.
bool has_same_bits(const torch::Tensor& a, const torch::Tensor& b);
/// Of two that agree: notes in the second which tensors somebody keeps from one step to the next.
void mark_kept(const Recording& first, Recording& second);

}  // namespace troupe::capture
