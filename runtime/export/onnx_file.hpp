// Writes ONNX's files: protocol buffers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
#pragma once

#include "troupe/runtime/export/onnx_graph.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

namespace troupe {

struct OnnxFileOptions {
  std::string graph_name;
  int64_t opset_version = 20;
  /// Weights of 1 KB and more go to `<path>.data`, where a reader looks for them.
  bool external_data = false;
};

/// Writes the file, and with external_data the file of the weights before it, each whole or not at all. Tensors may be
/// on any device and have any strides. Throws UsageError for a model of 2 GB and more without external_data, FileError
/// for what the file system refuses.
void write_onnx(const std::filesystem::path& path, const OnnxGraph& graph, const OnnxFileOptions& options);

}  // namespace troupe
