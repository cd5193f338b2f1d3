// Puts an ONNX graph together: nodes in order, constants once each, names that do not clash.
#pragma once

#include "troupe/runtime/export/onnx_graph.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace troupe {

/// A tensor of the graph; a size below 0 may change from run to run.
struct OnnxTensor {
  std::string name;
  torch::ScalarType dtype = torch::kFloat;
  bool has_rank = true;  ///< false: nothing is known of its sizes
  std::vector<int64_t> sizes;

  int64_t rank() const { return static_cast<int64_t>(sizes.size()); }
};

/// A whole number: `value`, or where `name` is not empty a tensor of the graph, int64 [1].
struct OnnxInt {
  int64_t value = 0;
  std::string name;

  bool is_fixed() const { return name.empty(); }
};

/// 0, 1, and so on to count - 1: as an order of axes the one that changes nothing.
std::vector<int64_t> counted(int64_t count);

class OnnxBuilder {
 public:
  explicit OnnxBuilder(int64_t opset_version) : opset_version_(opset_version) {}

  int64_t opset_version() const { return opset_version_; }
  OnnxGraph& graph() { return graph_; }
  /// `wish`, or if it is taken that with a number behind it.
  std::string unique_name(const std::string& wish);
  /// Whether something in the graph has the name.
  bool has_name(const std::string& name) const { return names_.contains(name); }

  /// Adds a node with one output and returns the output's name.
  std::string add(const std::string& op_type, std::vector<std::string> inputs, OnnxAttributes attributes = {});
  /// Adds a node with `count` outputs. Throws UsageError for a domain whose version is none or another than before.
  std::vector<std::string> add_many(const std::string& op_type, std::vector<std::string> inputs, std::size_t count,
                                    OnnxAttributes attributes = {}, const OnnxDomain& domain = {});

  /// An initializer; equal small ones are one, and so are those that are one tensor.
  std::string constant(const torch::Tensor& value, const std::string& name = "constant");
  /// int64 [n].
  std::string ints(const std::vector<int64_t>& values);
  std::string ints(const std::vector<OnnxInt>& values);
  /// A scalar of no dimension.
  std::string scalar(const torch::Scalar& value, torch::ScalarType dtype);
  std::string scalar(const OnnxInt& value, torch::ScalarType dtype);

  /// The tensor as `to`; itself if it has that type.
  std::string cast(const std::string& name, torch::ScalarType from, torch::ScalarType to);
  std::string cast(const OnnxTensor& tensor, torch::ScalarType to) { return cast(tensor.name, tensor.dtype, to); }
  /// One of the Reduce operators; no axes: over all of them.
  std::string reduce(const std::string& op_type, const std::string& input, const std::vector<int64_t>& axes,
                     bool keepdim);
  std::string reshape(const std::string& input, const std::vector<OnnxInt>& sizes);
  std::string reshape(const std::string& input, const std::vector<int64_t>& sizes);
  std::string transpose(const std::string& input, const std::vector<int64_t>& order);
  /// Two axes, counted from the front, in each other's place; `rank` is how many the input has.
  std::string swap_axes(const std::string& input, int64_t rank, int64_t a, int64_t b);
  /// The elements along the axis from the last to the first.
  std::string flip(const std::string& input, int64_t axis);
  std::string unsqueeze(const std::string& input, const std::vector<int64_t>& axes);
  std::string squeeze(const std::string& input, const std::vector<int64_t>& axes);
  /// From `start` (inclusive) to `end` (exclusive) along one axis; INT64_MAX is the end.
  std::string slice(const std::string& input, int64_t axis, const OnnxInt& start, const OnnxInt& end, int64_t step = 1);
  OnnxInt size_of(const OnnxTensor& tensor, int64_t axis);
  std::vector<OnnxInt> sizes_of(const OnnxTensor& tensor);

 private:
  int64_t opset_version_;
  OnnxGraph graph_;
  std::unordered_set<std::string> names_;
  std::map<std::string, std::string> small_constants_;  ///< by type, sizes and bytes
  std::unordered_map<const c10::TensorImpl*, std::string> large_constants_;
};

}  // namespace troupe
