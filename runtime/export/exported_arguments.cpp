#include "troupe/runtime/export/exported_arguments.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/runtime/export/exported_types.hpp"

#include <torch/csrc/jit/ir/constants.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

namespace {

namespace prim = c10::prim;
using c10::TypeKind;
using nlohmann::json;
using torch::jit::Value;

[[noreturn]] void refuse_argument(const c10::Type& type) {
  throw UsageError("an argument of the type " + type.str() + " has no form in PyTorch's exported programs");
}

/// One argument: a constant, or a value of the graph.
class ArgumentWriter {
 public:
  explicit ArgumentWriter(const ExportedValues& values) : values_(values) {}

  json write(const Value& value, const c10::Type& type) const {
    if (const auto* optional = type.castRaw<c10::OptionalType>()) return write(value, *optional->getElementType());
    if (type.kind() == TypeKind::ListType) return write_list(value, *type.castRaw<c10::ListType>()->getElementType());
    if (const auto* number = values_.number_of(value)) return exported_symbol(*number->name);
    const auto constant = torch::jit::toIValue(&value);
    if (!constant) {
      if (type.kind() == TypeKind::TensorType) return exported_tensor(values_.name_of(value));
      refuse_argument(type);
    }
    if (constant->isNone() || (constant->isTensor() && !constant->toTensor().defined())) return {{"as_none", true}};
    if (constant->isTensor()) return exported_tensor(values_.name_of(value));
    return write_constant(*constant, type);
  }

 private:
  static json write_constant(const c10::IValue& value, const c10::Type& type) {
    switch (type.kind()) {
      case TypeKind::ScalarTypeType:
        return {{"as_scalar_type", exported_type(static_cast<c10::ScalarType>(value.toInt()))}};
      case TypeKind::LayoutType: return {{"as_layout", exported_layout(static_cast<c10::Layout>(value.toInt()))}};
      case TypeKind::MemoryFormatType:
        return {{"as_memory_format", exported_memory_format(static_cast<c10::MemoryFormat>(value.toInt()))}};
      case TypeKind::FloatType:
        return {{"as_float", number_to_json(value.isInt() ? static_cast<double>(value.toInt()) : value.toDouble())}};
      default: break;
    }
    // Numbers keep their kind: x * 1 is of the type of x, and x * 1.0 is not if that is an integer.
    if (value.isBool()) return {{"as_bool", value.toBool()}};
    if (value.isInt()) return {{"as_int", value.toInt()}};
    if (value.isDouble()) return {{"as_float", number_to_json(value.toDouble())}};
    if (value.isString()) return {{"as_string", value.toStringRef()}};
    if (value.isDevice()) return {{"as_device", exported_device(value.toDevice())}};
    if (value.isComplexDouble()) {
      const auto number = value.toComplexDouble();
      return {{"as_complex", {{"real", number_to_json(number.real())}, {"imag", number_to_json(number.imag())}}}};
    }
    refuse_argument(type);
  }

  json write_list(const Value& value, const c10::Type& element) const {
    if (const auto constant = torch::jit::toIValue(&value)) {
      if (constant->isNone()) return {{"as_none", true}};
      if (constant->isIntList()) return {{"as_ints", constant->toIntVector()}};
      if (constant->isBoolList()) {
        auto flags = json::array();
        for (const bool flag : constant->toBoolList()) flags.push_back(flag);
        return {{"as_bools", flags}};
      }
      if (constant->isDoubleList()) {
        auto numbers = json::array();
        for (const double number : constant->toDoubleVector()) numbers.push_back(number_to_json(number));
        return {{"as_floats", numbers}};
      }
      if (constant->isList() && constant->toListRef().empty()) return {{list_form(element), json::array()}};
      refuse_argument(element);
    }
    if (value.node()->kind() != prim::ListConstruct) refuse_argument(element);
    return write_elements(value.node()->inputs(), element);
  }

  json write_elements(c10::ArrayRef<const Value*> elements, const c10::Type& type) const {
    bool is_symbolic = false;
    for (const auto* element : elements) is_symbolic = is_symbolic || values_.number_of(*element) != nullptr;
    auto list = json::array();
    for (const auto* element : elements) {
      auto one = write(*element, type);
      if (is_symbolic) {
        list.push_back(one.contains("as_sym_int") ? one["as_sym_int"] : std::move(one));
      } else if (type.kind() == TypeKind::OptionalType) {
        list.push_back(std::move(one));
      } else {
        list.push_back(std::move(one.begin().value()));
      }
    }
    return {{is_symbolic ? "as_sym_ints" : list_form(type), std::move(list)}};
  }

  static std::string list_form(const c10::Type& element) {
    switch (element.kind()) {
      case TypeKind::TensorType: return "as_tensors";
      case TypeKind::OptionalType: return "as_optional_tensors";
      case TypeKind::FloatType: return "as_floats";
      case TypeKind::BoolType: return "as_bools";
      case TypeKind::IntType:
      case TypeKind::SymIntType: return "as_ints";
      default: refuse_argument(element);
    }
  }

  const ExportedValues& values_;
};

bool is_default(const Value& value, const c10::Argument& argument) {
  if (!argument.default_value()) return false;
  const auto constant = torch::jit::toIValue(&value);
  return constant && *constant == *argument.default_value();
}

}  // namespace

json exported_arguments(const torch::jit::Node& node, const c10::FunctionSchema& schema, const ExportedValues& values) {
  const ArgumentWriter writer(values);
  const auto& arguments = schema.arguments();
  auto positional = arguments.size();
  while (positional > 0 && (arguments[positional - 1].kwarg_only() ||
                            is_default(*node.inputs()[positional - 1], arguments[positional - 1]))) {
    --positional;
  }
  auto out = json::array();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& argument = arguments[i];
    const auto& value = *node.inputs().at(i);
    if (argument.kwarg_only() ? is_default(value, argument) : i >= positional) continue;
    out.push_back(
        exported_argument(argument.name(), writer.write(value, *argument.real_type()), argument.kwarg_only()));
  }
  return out;
}

}  // namespace troupe
