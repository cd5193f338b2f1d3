#include "troupe/runtime/export/onnx_call.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/export/dynamic_graph.hpp"

#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace troupe {

void OnnxCall::refuse(const std::string& why) const {
  throw UsageError(std::string(node_.kind().toQualString()) + " has no mapping to ONNX here: " + why);
}

bool OnnxCall::takes(const char* argument) const {
  return node_.hasNamedInput(argument);
}

const OnnxValue& OnnxCall::value(const char* argument) const {
  return values_.at(node_.namedInput(argument));
}

bool OnnxCall::given(const char* argument) const {
  if (!takes(argument)) return false;
  const auto& given = value(argument);
  return given.kind != OnnxValue::Kind::constant || !given.constant.isNone();
}

std::vector<std::string> OnnxCall::arguments() const {
  std::vector<std::string> names;
  for (const auto& argument : node_.schema().arguments()) names.push_back(argument.name());
  return names;
}

OnnxTensor OnnxCall::to_tensor(const OnnxValue& value, const char* argument) {
  if (value.kind == OnnxValue::Kind::tensor) return value.tensor;
  if (value.kind == OnnxValue::Kind::integer) return {b.squeeze(value.integer, {0}), torch::kInt64, true, {}};
  const auto& constant = value.constant;
  if (value.kind == OnnxValue::Kind::list || (!constant.isTensor() && !constant.isScalar())) {
    refuse(std::string("its argument '") + argument + "' is neither a tensor nor a number");
  }
  const auto tensor = constant.isTensor() ? constant.toTensor() : torch::scalar_tensor(constant.toScalar());
  if (onnx_type(tensor.scalar_type()) == 0) refuse("ONNX has no tensors of " + std::string(tensor.dtype().name()));
  return {b.constant(tensor, value.path.empty() ? "constant" : value.path), tensor.scalar_type(), true,
          tensor.sizes().vec()};
}

OnnxTensor OnnxCall::tensor(const char* argument) {
  return to_tensor(value(argument), argument);
}

std::vector<OnnxTensor> OnnxCall::tensors(const char* argument) {
  std::vector<OnnxTensor> out;
  const auto& given = value(argument);
  if (given.kind != OnnxValue::Kind::list) refuse(std::string("its argument '") + argument + "' is no list of tensors");
  for (const auto& element : given.list) out.push_back(to_tensor(element, argument));
  return out;
}

std::vector<std::optional<OnnxTensor>> OnnxCall::optional_tensors(const char* argument) {
  std::vector<std::optional<OnnxTensor>> out;
  for (const auto& element : value(argument).list) {
    const bool is_none = element.kind == OnnxValue::Kind::constant && element.constant.isNone();
    out.push_back(is_none ? std::nullopt : std::optional(to_tensor(element, argument)));
  }
  return out;
}

std::string OnnxCall::optional_name(const char* argument) {
  return given(argument) ? tensor(argument).name : "";
}

std::optional<torch::Tensor> OnnxCall::known_tensor(const OnnxValue& value) const {
  if (value.kind != OnnxValue::Kind::constant || !value.constant.isTensor()) return std::nullopt;
  return value.constant.toTensor();
}

const c10::IValue& OnnxCall::constant(const char* argument) const {
  const auto& given = value(argument);
  if (given.kind == OnnxValue::Kind::constant) return given.constant;
  refuse(std::string("its argument '") + argument + "' depends on the input");
}

OnnxInt OnnxCall::to_size(const OnnxValue& value, const char* argument) const {
  if (value.kind == OnnxValue::Kind::integer) return {0, value.integer};
  if (value.kind == OnnxValue::Kind::constant && value.constant.isInt()) return {value.constant.toInt(), ""};
  refuse(std::string("its argument '") + argument + "' is not a whole number that is known or a size of an input");
}

int64_t OnnxCall::integer(const char* argument) const {
  const auto& value = constant(argument);
  if (value.isInt()) return value.toInt();
  refuse(std::string("its argument '") + argument + "' is not a whole number");
}

std::vector<int64_t> OnnxCall::integers(const char* argument) const {
  std::vector<int64_t> out;
  for (const auto& size : sizes(argument)) {
    if (!size.is_fixed()) refuse(std::string("its argument '") + argument + "' depends on the size of a dynamic axis");
    out.push_back(size.value);
  }
  return out;
}

OnnxInt OnnxCall::size(const char* argument) const {
  return to_size(value(argument), argument);
}

std::vector<OnnxInt> OnnxCall::sizes(const char* argument) const {
  const auto& given = value(argument);
  std::vector<OnnxInt> out;
  if (given.kind == OnnxValue::Kind::list) {
    for (const auto& element : given.list) out.push_back(to_size(element, argument));
  } else if (given.kind == OnnxValue::Kind::constant && given.constant.isIntList()) {
    for (const int64_t element : given.constant.toIntVector()) out.push_back({element, ""});
  } else {
    out.push_back(to_size(given, argument));
  }
  return out;
}

std::vector<int64_t> OnnxCall::integers(const char* argument, std::size_t dims) const {
  auto values = integers(argument);
  if (values.size() == 1) values.resize(dims, values.front());
  return values;
}

std::vector<OnnxInt> OnnxCall::sizes(const char* argument, std::size_t dims) const {
  auto values = sizes(argument);
  if (values.size() == 1) values.resize(dims, values.front());
  return values;
}

double OnnxCall::number(const char* argument) const {
  return scalar(argument).toDouble();
}

torch::Scalar OnnxCall::scalar(const char* argument) const {
  const auto& value = constant(argument);
  if (value.isTensor() && value.toTensor().numel() == 1) return value.toTensor().item();
  if (value.isScalar()) return value.toScalar();
  refuse(std::string("its argument '") + argument + "' is not a number");
}

bool OnnxCall::flag(const char* argument) const {
  const auto& value = constant(argument);
  if (value.isBool()) return value.toBool();
  refuse(std::string("its argument '") + argument + "' is neither true nor false");
}

std::string OnnxCall::text(const char* argument) const {
  const auto& value = constant(argument);
  if (value.isString()) return value.toStringRef();
  refuse(std::string("its argument '") + argument + "' is no text");
}

int64_t OnnxCall::axis(const char* argument, int64_t rank) const {
  const auto axis = integer(argument);
  return axis < 0 ? axis + std::max<int64_t>(rank, 1) : axis;
}

std::vector<int64_t> OnnxCall::axes(const char* argument, int64_t rank) const {
  std::vector<int64_t> out;
  if (given(argument)) out = integers(argument);
  for (auto& axis : out) axis = axis < 0 ? axis + std::max<int64_t>(rank, 1) : axis;
  if (out.empty()) {
    for (int64_t axis = 0; axis < rank; ++axis) out.push_back(axis);
  }
  std::ranges::sort(out);
  return out;
}

bool OnnxCall::is_tensor(const char* argument) const {
  const auto& given = value(argument);
  return given.kind == OnnxValue::Kind::tensor ||
         (given.kind == OnnxValue::Kind::constant && given.constant.isTensor());
}

std::string OnnxCall::operand(const char* argument, torch::ScalarType dtype) {
  if (is_tensor(argument)) return b.cast(tensor(argument), dtype);
  const auto& given = value(argument);
  if (given.kind == OnnxValue::Kind::integer) return b.scalar(OnnxInt{0, given.integer}, dtype);
  return b.scalar(scalar(argument), dtype);
}

torch::ScalarType OnnxCall::common_type(const char* a, const char* b) {
  // LibTorch's own rule, asked with tensors that have the same types and as many dimensions.
  const auto example = [&](const char* argument) -> torch::Tensor {
    if (!is_tensor(argument)) {
      const auto& given = value(argument);
      const auto number = given.kind == OnnxValue::Kind::integer ? torch::Scalar(int64_t{1}) : scalar(argument);
      auto tensor = torch::scalar_tensor(number, torch::TensorOptions(number.type()));
      tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
      return tensor;
    }
    const auto tensor = this->tensor(argument);
    return torch::empty(std::vector<int64_t>(tensor.sizes.size(), 1), torch::TensorOptions(tensor.dtype));
  };
  return at::result_type(example(a), example(b));
}

std::size_t OnnxCall::output_count() const {
  return node_.outputs().size();
}

bool OnnxCall::output_is_used(std::size_t index) const {
  return index < node_.outputs().size() && node_.outputs()[index]->hasUses();
}

OnnxTensor OnnxCall::output(std::size_t index) const {
  OnnxTensor out;
  const auto type = node_.outputs().at(index)->type()->cast<c10::TensorType>();
  if (!type || !type->scalarType()) refuse("the type of what it gives is unknown");
  out.dtype = *type->scalarType();
  if (onnx_type(out.dtype) == 0) refuse(std::string("ONNX has no tensors of ") + c10::toString(out.dtype));
  const auto sizes = type->sizes();
  out.has_rank = sizes.size().has_value();
  for (std::size_t i = 0; out.has_rank && i < *sizes.size(); ++i) out.sizes.push_back(sizes[i].value_or(-1));
  return out;
}

void OnnxCall::returns(const std::string& name, std::size_t index) {
  OnnxValue value;
  value.kind = OnnxValue::Kind::tensor;
  value.tensor = output(index);
  value.tensor.name = name;
  values_[node_.outputs()[index]] = std::move(value);
}

bool OnnxCall::has_returned(std::size_t index) const {
  return values_.contains(node_.outputs().at(index));
}

void OnnxCall::returns_cast(const std::string& name, torch::ScalarType from, std::size_t index) {
  returns(b.cast(name, from, output_type(index)), index);
}

void OnnxCall::returns_list(const std::vector<std::string>& names, torch::ScalarType dtype, std::size_t index) {
  OnnxValue list;
  list.kind = OnnxValue::Kind::list;
  for (const auto& name : names) {
    OnnxValue element;
    element.kind = OnnxValue::Kind::tensor;
    element.tensor = {name, dtype, false, {}};
    list.list.push_back(std::move(element));
  }
  values_[node_.outputs().at(index)] = std::move(list);
}

const OnnxOperators& onnx_operators() {
  static const OnnxOperators operators = [] {
    OnnxOperators all;
    add_onnx_activations(all);
    add_onnx_arithmetic(all);
    add_onnx_attention(all);
    add_onnx_convolutions(all);
    add_onnx_creation(all);
    add_onnx_indexing(all);
    add_onnx_normalizations(all);
    add_onnx_pooling(all);
    add_onnx_products(all);
    add_onnx_recurrent(all);
    add_onnx_reductions(all);
    add_onnx_rearrangements(all);
    add_onnx_resizing(all);
    add_onnx_scatters(all);
    add_onnx_shapes(all);
    add_onnx_special_functions(all);
    add_onnx_windows(all);
    return all;
  }();
  return operators;
}

}  // namespace troupe
