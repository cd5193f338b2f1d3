// A model in ONNX's terms, before it is bytes.
#pragma once

#include "troupe/runtime/export/register_onnx_operator.hpp"

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

/// Inputs that are left out are "".
struct OnnxNode {
  std::string op_type;
  std::vector<std::string> inputs, outputs;
  OnnxAttributes attributes;
  std::string domain = {};  ///< whose operator it is; "": ONNX's own
};

/// A size, or the name of one that may change ("" for one without a name).
using OnnxDim = std::variant<int64_t, std::string>;

struct OnnxValueInfo {
  std::string name;
  torch::ScalarType dtype = torch::kFloat;
  std::vector<OnnxDim> dims;
};

struct OnnxGraph {
  std::vector<OnnxValueInfo> inputs, outputs;
  std::vector<OnnxNode> nodes;  ///< each after those that make its inputs
  std::vector<std::pair<std::string, torch::Tensor>> initializers;
  std::map<std::string, int64_t> domains;  ///< those of nodes besides ONNX's own, with their versions
};

/// The number that ONNX gives a type in TensorProto.DataType; 0 if it has none.
int onnx_type(torch::ScalarType dtype);

}  // namespace troupe
