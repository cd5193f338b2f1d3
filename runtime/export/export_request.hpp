// What the export functions of a Module ask the tracer for.
#pragma once

#include "troupe/modules/module.hpp"
#include "troupe/runtime/export/traced_model.hpp"
#include "troupe/runtime/summary/example_input.hpp"

#include <string>

namespace troupe {

/// A request to trace `module` with `examples`, or its example_input_array if there are none, on the module's
/// device. Throws UsageError if there is no example, or where forward, of one tensor, would get several.
template <typename Options>
TraceRequest export_request(const std::string& caller, Module& module, torch::TensorList examples,
                            const Options& options) {
  TraceRequest request{.caller = caller,
                       .module = module,
                       .forward = options.forward,
                       .inputs = examples.vec(),
                       .input_names = options.input_names,
                       .dynamic_batch = options.dynamic_batch,
                       .dynamic_axes = options.dynamic_axes};
  if (request.inputs.empty() && module.example_input_array.defined()) request.inputs = {example_input(module)};
  if (request.inputs.empty()) {
    throw UsageError(caller + ": there is no example input: set example_input_array in the module, or pass one");
  }
  if (!request.forward && request.inputs.size() > 1) {
    throw UsageError(caller + ": forward takes one tensor, but there are " + std::to_string(request.inputs.size()) +
                     " example inputs: give options.forward, which calls the module with all of them");
  }
  if (!request.forward) {
    request.forward = [&module](const std::vector<torch::Tensor>& inputs) {
      return std::vector<torch::Tensor>{module.forward(inputs.front())};
    };
  }
  for (auto& input : request.inputs) {
    if (input.defined()) input = input.to(module.device());
  }
  return request;
}

}  // namespace troupe
