// The example that shows shapes in the summary and that exports trace.
#pragma once

#include "troupe/modules/module.hpp"

namespace troupe {

/// The module's example_input_array as its forward can take it: on the device of its parameters and, floating-point
/// numbers, in their type, which a run in 64-true, 16-true or bf16-true has changed. Undefined if there is none.
inline torch::Tensor example_input(const Module& module) {
  const auto& example = module.example_input_array;
  if (!example.defined()) return example;
  auto type = example.scalar_type();
  for (const auto& parameter : module.parameters()) {
    if (!example.is_floating_point() || !parameter.is_floating_point()) continue;
    type = parameter.scalar_type();
    break;
  }
  return example.to(module.device(), type);
}

}  // namespace troupe
