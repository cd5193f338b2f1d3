#include "troupe/modules/module.hpp"
#include "troupe/runtime/export/export_request.hpp"
#include "troupe/runtime/export/onnx_file.hpp"
#include "troupe/runtime/export/onnx_lowering.hpp"
#include "troupe/runtime/export/traced_model.hpp"
#include "troupe/runtime/summary/module_type_name.hpp"

#include <string>

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

}  // namespace

void Module::to_onnx(const std::filesystem::path& file_path, torch::TensorList input_sample,
                     const OnnxOptions& options) {
  if (file_path.empty()) throw UsageError("to_onnx: the path of the file is empty");
  if (options.opset_version < kOldestOpset || options.opset_version > kNewestOpset) {
    throw UsageError("to_onnx: opset_version " + std::to_string(options.opset_version) + " is none of " +
                     std::to_string(kOldestOpset) + " to " + std::to_string(kNewestOpset));
  }
  const auto traced = trace_model(export_request("to_onnx", *this, input_sample, options));
  write_onnx(file_path, lower(traced, options),
             {module_type_name(*this), options.opset_version, options.external_data});
}

}  // namespace troupe
