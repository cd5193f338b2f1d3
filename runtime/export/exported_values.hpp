// The values of a graph in an exported program: their names, and what is known of their sizes.
#pragma once

#include "troupe/runtime/export/traced_model.hpp"

#include <torch/csrc/jit/ir/ir.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe {

/// A whole number that may depend on the sizes of the dynamic axes.
struct SymbolicNumber {
  std::string text;                 ///< as sympy reads it: "Mul(Integer(2), Symbol('s0', positive=True, integer=True))"
  std::optional<int64_t> hint = 0;  ///< its value for the example, if it follows from the dynamic axes
  bool is_constant = false;
  std::optional<std::string> name = std::nullopt;  ///< of the value in the graph, if it is one
};

SymbolicNumber constant_number(int64_t value);
SymbolicNumber sum_of(const SymbolicNumber& a, const SymbolicNumber& b);
SymbolicNumber product_of(const SymbolicNumber& a, const SymbolicNumber& b);
SymbolicNumber quotient_of(const SymbolicNumber& a, const SymbolicNumber& b);  ///< rounded down
/// The schema's SymInt.
nlohmann::json exported_number(const SymbolicNumber& number);

class ExportedValues {
 public:
  explicit ExportedValues(const TracedModel& model) : model_(model) {}

  /// `wanted` as an identifier of Python's that no other value has.
  std::string unique_name(const std::string& wanted);
  /// The next name for a result of the operator: "linear_1", "linear_2".
  std::string result_name(const std::string& operator_name);

  /// A tensor whose sizes were found.
  void name_tensor(const torch::jit::Value& value, const std::string& name);
  /// A tensor that is there as a whole: a weight, a constant.
  void name_tensor(const torch::jit::Value& value, const std::string& name, const torch::Tensor& tensor);
  void describe(const std::string& name, const torch::Tensor& tensor);
  /// Another value for what is described already.
  void name_again(const torch::jit::Value& value, const std::string& name) { names_[&value] = name; }
  void name_number(const torch::jit::Value& value, SymbolicNumber number);

  /// Throws std::logic_error for a value that has none.
  const std::string& name_of(const torch::jit::Value& value) const;
  /// Null for what is no number that depends on sizes.
  const SymbolicNumber* number_of(const torch::jit::Value& value) const;

  /// The size of the k-th dynamic axis.
  SymbolicNumber axis(std::size_t k) const;
  SymbolicNumber number_from(const SizeFormula& formula) const;
  /// Finds the sizes of the tensor as numbers that follow from those of the dynamic axes. One that follows in no way
  /// that is known here gets a symbol of its own, as PyTorch gives sizes that depend on values ("unbacked"). Tensors
  /// that come before it in the graph must have been looked at. False if the traces know no sizes.
  bool find_sizes(const torch::jit::Value& value);

  /// How many symbols u0, u1, ... there are.
  std::size_t unexplained() const { return unexplained_; }
  const nlohmann::json& tensors() const { return tensors_; }  ///< name -> TensorMeta
  const nlohmann::json& numbers() const { return numbers_; }  ///< name -> SymInt

 private:
  std::optional<SymbolicNumber> rest_of_reshape(const torch::jit::Value& value, std::size_t unknown) const;
  std::optional<SymbolicNumber> windows_along(const torch::jit::Value& value, std::size_t axis) const;

  const TracedModel& model_;
  std::set<std::string> taken_;
  std::map<std::string, std::size_t> counts_;
  std::unordered_map<const torch::jit::Value*, std::string> names_;
  std::unordered_map<const torch::jit::Value*, SymbolicNumber> symbolic_;
  std::unordered_map<const torch::jit::Value*, std::vector<SymbolicNumber>> sizes_;
  std::size_t unexplained_ = 0;
  std::map<std::vector<int64_t>, SymbolicNumber> derived_;  ///< sizes without a formula, by what the traces saw
  nlohmann::json tensors_ = nlohmann::json::object(), numbers_ = nlohmann::json::object();
};

}  // namespace troupe
