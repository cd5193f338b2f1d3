// How an operator of one's own is written to ONNX: docs/custom-operators.md has an example.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace troupe {

class OnnxCall;

/// What a node is told besides its inputs.
using OnnxAttributeValue =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>, std::vector<std::string>>;
/// Names and values, in order: {{"axis", 1}, {"mode", "nearest"}}.
using OnnxAttributes = std::vector<std::pair<std::string, OnnxAttributeValue>>;

/// Whose operators a node is of: "" for ONNX's own, whose version is opset_version; else the domain under which whoever
/// runs the file knows them (https://onnx.ai/onnx/repo-docs/IR.html#operator-sets).
struct OnnxDomain {
  std::string name = "";
  int64_t version = 1;
};

/// One call of an operator in the model that is exported, and the ONNX graph that it is written into. Tensors of that
/// graph go by names. Arguments of the call go by their names in the operator's schema.
///
/// It lives as long as the function that gets it runs. All functions throw UsageError: for an argument that the schema
/// has not, and for one of another kind or that depends on the model's input where a value is asked for.
class OnnxCallWriter {
 public:
  /// For to_onnx, which calls the registered function with it.
  explicit OnnxCallWriter(OnnxCall& call) : call_(call) {}

  /// The argument as a tensor of the graph: what depends on the model's input, a weight, or a number as a tensor
  /// without dimensions. "" if it is None, which a node takes for an input that is left out.
  std::string tensor(const std::string& argument);
  /// A list of tensors.
  std::vector<std::string> tensors(const std::string& argument);
  /// The type of the tensor, and its sizes; -1 for one that may change.
  torch::ScalarType dtype(const std::string& argument);
  std::vector<int64_t> sizes(const std::string& argument);

  /// Whether the argument has a value; false for None.
  bool given(const std::string& argument) const;
  int64_t integer(const std::string& argument) const;
  std::vector<int64_t> integers(const std::string& argument) const;
  double number(const std::string& argument) const;
  bool flag(const std::string& argument) const;
  std::string text(const std::string& argument) const;

  /// The version of ONNX's own operators that the file is written for.
  int64_t opset_version() const;

  /// A tensor with this value.
  std::string constant(const torch::Tensor& value);
  /// Adds a node with one output, whose name it returns.
  std::string add(const std::string& op_type, std::vector<std::string> inputs, OnnxAttributes attributes = {},
                  const OnnxDomain& domain = {});
  /// Adds a node with `count` outputs.
  std::vector<std::string> add_many(const std::string& op_type, std::size_t count, std::vector<std::string> inputs,
                                    OnnxAttributes attributes = {}, const OnnxDomain& domain = {});

  /// The type of a result of the call.
  torch::ScalarType result_dtype(std::size_t index = 0) const;
  /// Says which tensor of the graph is a result of the call; it must have the type and the sizes of that.
  void returns(const std::string& tensor, std::size_t index = 0);
  /// The same of a result that is a list of tensors.
  void returns_list(const std::vector<std::string>& tensors, std::size_t index = 0);
  /// Ends the export: this call cannot be written because of `why`.
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  const char* checked(const std::string& argument) const;
  void check_result(const std::string& tensor, std::size_t index) const;

  OnnxCall& call_;
};

/// Writes a call in ONNX's terms and gives its results to OnnxCallWriter::returns.
using OnnxOperatorWriter = std::function<void(OnnxCallWriter&)>;

/// Makes to_onnx write calls of `name`, "namespace::operator", with `write`; all overloads of it, which
/// OnnxCallWriter::given and the arguments tell apart, and the one that works in place ("operator_") if that is not
/// registered by itself. It goes before what the library knows of the operator. A second registration replaces the
/// first. Returns true, so that it can stand outside of functions:
///
///     const bool written = troupe::register_onnx_operator("example::squared_relu", [](troupe::OnnxCallWriter& call) {
///       const auto positive = call.add("Relu", {call.tensor("self")});
///       call.returns(call.add("Mul", {positive, positive}));
///     });
///
/// Any thread may call it. Throws UsageError for a name without a namespace and for an empty function.
bool register_onnx_operator(const std::string& name, OnnxOperatorWriter write);

}  // namespace troupe
