// How a module is exported; see Module::to_exported_program, Module::to_onnx and Module::to_torchscript.
// docs/export.md says which can be.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// What is exported instead of the module's forward: any number of tensors in and out. It calls the module whose
/// to_exported_program, to_onnx or to_torchscript it is given to.
using ExportForward = std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>& inputs)>;

/// The axes of the inputs that may have another size in the exported model, each with the name of its size: names of
/// inputs -> {axis, name}, as torch.onnx.export takes them (https://pytorch.org/docs/stable/onnx.html). Axes with one
/// name have one size. `{{"tokens", {{1, "time"}}}}`.
using DynamicAxes = std::map<std::string, std::map<int64_t, std::string>>;

/// The sizes that a dynamic axis may have; `max` nothing: any.
struct SizeRange {
  int64_t min = 1;
  std::optional<int64_t> max = std::nullopt;
};

struct ExportedProgramOptions {
  /// Names of the inputs; default: "input", or "input_0" and so on if there are several.
  std::vector<std::string> input_names = {};
  /// As TorchscriptOptions'.
  bool dynamic_batch = true;
  DynamicAxes dynamic_axes = {};
  ExportForward forward = {};
  /// Sizes that the program takes, by the name of the axis ("batch", or a name out of dynamic_axes), as Dim of
  /// torch.export has them (https://docs.pytorch.org/docs/stable/export.html). An axis that is not named: 1 and more.
  std::map<std::string, SizeRange> size_ranges = {};
};

struct TorchscriptOptions {
  /// Names of the inputs; default: "input", or "input_0" and so on if there are several.
  std::vector<std::string> input_names = {};
  /// The first axis of every input is the size of the batch and may change. False: all sizes are those of the example.
  bool dynamic_batch = true;
  /// Axes that may change besides the batch.
  DynamicAxes dynamic_axes = {};
  /// Default: the module's forward, of one input.
  ExportForward forward = {};
};

struct OnnxOptions {
  /// Names of the inputs and outputs; default: "input" and "output", or "input_0" and so on if there are several.
  std::vector<std::string> input_names = {};
  std::vector<std::string> output_names = {};
  /// As TorchscriptOptions'.
  bool dynamic_batch = true;
  DynamicAxes dynamic_axes = {};
  ExportForward forward = {};
  /// The version of ONNX's operators, 17 to 23 (https://onnx.ai/onnx/intro/concepts.html#what-is-an-opset-version).
  int64_t opset_version = 20;
  /// Puts the weights into `<file_path>.data` beside the model; one file can hold 2 GB.
  bool external_data = false;
};

}  // namespace troupe
