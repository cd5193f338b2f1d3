// Faster ways to the same bits.
#pragma once

#include "troupe/runtime/capture/recording.hpp"

#include <torch/types.h>

#include <functional>
#include <vector>

namespace troupe::capture {

/// Does what an operator did, into memory that is laid out: reads its arguments and writes its results each time.
using Kernel = std::function<void()>;

/// Whether a replay has a kernel of its own for this operator, with these types and strides. Each gives the bits of
/// LibTorch's, NaN, ties and signs of zero included, and draws the same random numbers (tests/runtime/capture/
/// substitutes_test.cpp); docs/captured-step.md lists them.
bool has_substitute(const Action& action);

/// That kernel. `arguments` are those of the operator, `results` where its results lie.
Kernel substitute(const Action& action, std::vector<c10::IValue> arguments, std::vector<torch::Tensor> results);

/// Whether the result depends on the sizes of the arguments alone: ones_like and its like.
bool ignores_values(const Action& action);

}  // namespace troupe::capture
