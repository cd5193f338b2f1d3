// What operators that work in place change, and whether they can be written as operators that do not.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

namespace troupe {

/// Throws UsageError with the node for an operator that changes a tensor while another name for the same memory (a
/// view, or what it is a view of) is read afterwards. The tracer has already renamed the tensor itself.
void check_in_place(const torch::jit::Graph& graph);

/// Whether the node changes an argument.
bool works_in_place(const torch::jit::Node& node);

/// The argument that the node changes; null if there is none.
const torch::jit::Value* changed_argument(const torch::jit::Node& node);

/// The value that `value` is a view of, through any number of views and operators in place; `value` if it is none.
const torch::jit::Value* owner_of_memory(const torch::jit::Value* value);

}  // namespace troupe
