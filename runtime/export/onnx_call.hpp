// One call of an operator in a traced graph, as those who write it in ONNX's terms see it.
#pragma once

#include "troupe/runtime/export/onnx_builder.hpp"

#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe {

/// What a value of the traced graph is in the ONNX graph.
struct OnnxValue {
  enum class Kind { constant, tensor, integer, list };
  Kind kind = Kind::constant;
  c10::IValue constant;         ///< known when the model is exported: a number, a text, a weight, none
  std::string path;             ///< of a constant that is a weight: its name
  OnnxTensor tensor;            ///< depends on the inputs
  std::string integer;          ///< a size, see OnnxInt::name
  std::vector<OnnxValue> list;  ///< also of constants
};

/// Arguments go by their names in the operator's schema, "self" and so on, as LibTorch's native_functions.yaml has
/// them.
class OnnxCall {
 public:
  using Values = std::unordered_map<const torch::jit::Value*, OnnxValue>;

  OnnxCall(OnnxBuilder& builder, Values& values, const torch::jit::Node& node)
      : b(builder), values_(values), node_(node) {}

  OnnxBuilder& b;

  /// Whether this overload has the argument; whether it also got a value.
  bool takes(const char* argument) const;
  bool given(const char* argument) const;
  /// The names of all.
  std::vector<std::string> arguments() const;

  OnnxTensor tensor(const char* argument);
  std::vector<OnnxTensor> tensors(const char* argument);
  std::vector<std::optional<OnnxTensor>> optional_tensors(const char* argument);
  /// "" where none was given.
  std::string optional_name(const char* argument);
  /// The value of a weight, or of what was computed from weights alone.
  std::optional<torch::Tensor> known_tensor(const OnnxValue& value) const;
  const OnnxValue& value(const char* argument) const;

  int64_t integer(const char* argument) const;
  std::vector<int64_t> integers(const char* argument) const;
  /// One for each of `dims` dimensions: a single one stands for all. None stays none.
  std::vector<int64_t> integers(const char* argument, std::size_t dims) const;
  OnnxInt size(const char* argument) const;
  std::vector<OnnxInt> sizes(const char* argument) const;
  std::vector<OnnxInt> sizes(const char* argument, std::size_t dims) const;
  double number(const char* argument) const;
  torch::Scalar scalar(const char* argument) const;
  bool flag(const char* argument) const;
  std::string text(const char* argument) const;
  /// An axis counted from the front.
  int64_t axis(const char* argument, int64_t rank) const;
  /// Axes counted from the front, in order; all if none were given, unless an empty list means none.
  std::vector<int64_t> axes(const char* argument, int64_t rank) const;

  bool is_tensor(const char* argument) const;
  /// A tensor or a number as a tensor of `dtype`.
  std::string operand(const char* argument, torch::ScalarType dtype);
  /// The type that LibTorch computes in when it meets both arguments.
  torch::ScalarType common_type(const char* a, const char* b);

  /// The tensor that the call gives, as traced, still without a name.
  OnnxTensor output(std::size_t index = 0) const;
  torch::ScalarType output_type(std::size_t index = 0) const { return output(index).dtype; }
  std::size_t output_count() const;
  bool output_is_used(std::size_t index) const;
  void returns(const std::string& name, std::size_t index = 0);
  bool has_returned(std::size_t index) const;
  /// The same, of a tensor that has another type than the output.
  void returns_cast(const std::string& name, torch::ScalarType from, std::size_t index = 0);
  /// A list of tensors of `dtype`.
  void returns_list(const std::vector<std::string>& names, torch::ScalarType dtype, std::size_t index = 0);

  /// Ends the export: the operator cannot be written because of `why`.
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  OnnxTensor to_tensor(const OnnxValue& value, const char* argument);
  const c10::IValue& constant(const char* argument) const;
  OnnxInt to_size(const OnnxValue& value, const char* argument) const;

  Values& values_;
  const torch::jit::Node& node_;
};

/// Writes a call in ONNX's terms and gives its results to OnnxCall::returns.
using OnnxOperator = std::function<void(OnnxCall&)>;
/// By the names of LibTorch's operators, without "aten::" and without the "_" of those that work in place.
using OnnxOperators = std::map<std::string, OnnxOperator>;

/// All that are known.
const OnnxOperators& onnx_operators();

// The parts of that table, by subject.
void add_onnx_activations(OnnxOperators& operators);
void add_onnx_arithmetic(OnnxOperators& operators);
void add_onnx_attention(OnnxOperators& operators);
void add_onnx_convolutions(OnnxOperators& operators);
void add_onnx_creation(OnnxOperators& operators);
void add_onnx_indexing(OnnxOperators& operators);
void add_onnx_normalizations(OnnxOperators& operators);
void add_onnx_pooling(OnnxOperators& operators);
void add_onnx_products(OnnxOperators& operators);
void add_onnx_recurrent(OnnxOperators& operators);
void add_onnx_reductions(OnnxOperators& operators);
void add_onnx_rearrangements(OnnxOperators& operators);
void add_onnx_resizing(OnnxOperators& operators);
void add_onnx_scatters(OnnxOperators& operators);
void add_onnx_shapes(OnnxOperators& operators);
void add_onnx_special_functions(OnnxOperators& operators);
void add_onnx_windows(OnnxOperators& operators);

}  // namespace troupe
