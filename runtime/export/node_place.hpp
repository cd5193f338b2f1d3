// Which layer an operator of a traced graph belongs to.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>

namespace troupe {

/// "in the module 'encoder.0'", or "behind the module ..." with the last one whose weights the value comes from; empty
/// if it comes from none. A trace of C++ code knows of modules only by their weights.
std::string place_of(const torch::jit::Node& node);

}  // namespace troupe
