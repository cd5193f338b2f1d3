// A traced model as an ONNX graph.
#pragma once

#include "troupe/runtime/export/onnx_graph.hpp"
#include "troupe/runtime/export/traced_model.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace troupe {

/// Writes each operator of the graph in ONNX's terms (onnx_call.hpp has the table). What depends on weights alone and
/// has no mapping is computed now. `output_names` must be as many as outputs, or none for the default.
///
/// Throws UsageError for names that do not fit, and for all operators without a mapping together: each with its name,
/// the modules that it is in or behind, how often it is there, and its first line of the graph.
OnnxGraph lower_to_onnx(const TracedModel& model, const std::vector<std::string>& output_names, int64_t opset_version);

}  // namespace troupe
