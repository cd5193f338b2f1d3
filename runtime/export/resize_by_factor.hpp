// Resizing by a factor, which in a trace also has the size that the factor gave.
//
// The size is floor(input * factor), and for a factor such as 1.3 no formula of size_formula.hpp. LibTorch's operators
// have overloads that take the factors alone and compute it.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace troupe {

/// The operator that `constant` is an output size of, if it also has its factors and one of them is not whole;
/// otherwise null.
torch::jit::Node* resized_by_factor(const torch::jit::Value& constant);

/// Makes such an operator one that takes its factors alone; its output stays the same value.
void leave_size_to_factors(torch::jit::Node& resize);

}  // namespace troupe
