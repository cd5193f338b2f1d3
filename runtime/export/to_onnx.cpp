#include "troupe/modules/module.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/onnx_file.hpp"
#include "troupe/runtime/export/onnx_lowering.hpp"
#include "troupe/runtime/export/traced_model.hpp"
#include "troupe/runtime/sinks/sink_warning.hpp"
#include "troupe/runtime/summary/module_type_name.hpp"

#include <torch/types.h>

#include <algorithm>
#include <string>
#include <variant>

namespace troupe {

namespace {

constexpr int64_t kOldestOpset = 17, kNewestOpset = 23;

OnnxGraph lower(const TracedModel& traced, const OnnxOptions& options) {
  try {
    return lower_to_onnx(traced, options.output_names, options.opset_version);
  } catch (const UsageError& error) {
    throw UsageError(std::string("to_onnx: ") + error.what());
  }
}

bool has_bfloat16(const OnnxGraph& graph) {
  const auto is_one = [](const auto& value) { return value.dtype == torch::kBFloat16; };
  const auto casts_to_one = [](const OnnxNode& node) {
    return std::ranges::any_of(node.attributes, [&](const auto& attribute) {
      const auto* type = std::get_if<int64_t>(&attribute.second);
      return node.op_type == "Cast" && type && *type == onnx_type(torch::kBFloat16);
    });
  };
  return std::ranges::any_of(graph.inputs, is_one) || std::ranges::any_of(graph.outputs, is_one) ||
         std::ranges::any_of(graph.nodes, casts_to_one) || std::ranges::any_of(graph.initializers, [](const auto& one) {
           return one.second.scalar_type() == torch::kBFloat16;
         });
}

}  // namespace

void Module::to_onnx(const std::filesystem::path& file_path, torch::TensorList input_sample,
                     const OnnxOptions& options) {
  if (file_path.empty()) throw UsageError("to_onnx: the path of the file is empty");
  if (options.opset_version < kOldestOpset || options.opset_version > kNewestOpset) {
    throw UsageError("to_onnx: opset_version " + std::to_string(options.opset_version) + " is none of " +
                     std::to_string(kOldestOpset) + " to " + std::to_string(kNewestOpset));
  }
  const auto traced = trace_model(export_request("to_onnx", *this, input_sample, options));
  const auto graph = lower(traced, options);
  write_onnx(file_path, graph, {module_type_name(*this), options.opset_version, options.external_data});
  if (has_bfloat16(graph)) {
    warn_on_stderr("to_onnx: " + file_path.string() +
                   " computes in bfloat16, for which onnxruntime has next to no operators on the CPU (1.31: neither "
                   "Add nor MatMul), so that it refuses to load it; to(torch::kFloat32) before the export gives a "
                   "model that it runs");
  }
}

}  // namespace troupe
