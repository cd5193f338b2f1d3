#include "troupe/runtime/export/exported_values.hpp"

#include "troupe/runtime/export/exported_types.hpp"
#include "troupe/runtime/export/script_module.hpp"
#include "troupe/runtime/export/size_formula.hpp"

#include <algorithm>
#include <ranges>
#include <stdexcept>
#include <utility>

namespace troupe {

namespace {

constexpr int64_t kLongestStride = 16;

/// The call of a function of sympy's, or its value for constants.
SymbolicNumber symbolic_call(const char* function, const SymbolicNumber& a, const SymbolicNumber& b,
                             int64_t (*compute)(int64_t, int64_t)) {
  std::optional<int64_t> hint;
  if (a.hint && b.hint) hint = compute(*a.hint, *b.hint);
  if (a.is_constant && b.is_constant) return constant_number(*hint);
  return {std::string(function) + "(" + a.text + ", " + b.text + ")", hint};
}

}  // namespace

SymbolicNumber constant_number(int64_t value) {
  return {"Integer(" + std::to_string(value) + ")", value, true};
}

SymbolicNumber sum_of(const SymbolicNumber& a, const SymbolicNumber& b) {
  return symbolic_call("Add", a, b, [](int64_t x, int64_t y) { return x + y; });
}

SymbolicNumber product_of(const SymbolicNumber& a, const SymbolicNumber& b) {
  if (a.is_constant && a.hint == 1) return b;
  if (b.is_constant && b.hint == 1) return a;
  return symbolic_call("Mul", a, b, [](int64_t x, int64_t y) { return x * y; });
}

SymbolicNumber quotient_of(const SymbolicNumber& a, const SymbolicNumber& b) {
  if (b.is_constant && b.hint == 1) return a;
  return symbolic_call("FloorDiv", a, b, [](int64_t x, int64_t y) { return y == 0 ? 0 : floor_divide(x, y); });
}

nlohmann::json exported_number(const SymbolicNumber& number) {
  if (number.is_constant) return exported_int(number.hint.value());
  return {
      {"as_expr", {{"expr_str", number.text}, {"hint", number.hint ? exported_int(*number.hint) : nlohmann::json()}}}};
}

std::string ExportedValues::unique_name(const std::string& wanted) {
  const auto name = python_identifier(wanted);
  if (taken_.insert(name).second) return name;
  return result_name(name);
}

std::string ExportedValues::result_name(const std::string& operator_name) {
  auto base = operator_name;
  while (base.size() > 1 && base.ends_with('_')) base.pop_back();
  for (;;) {
    auto name = base + "_" + std::to_string(++counts_[base]);
    if (taken_.insert(name).second) return name;
  }
}

SymbolicNumber ExportedValues::axis(std::size_t k) const {
  return {"Symbol('s" + std::to_string(k) + "', positive=True, integer=True)", model_.axes.at(k).base};
}

SymbolicNumber ExportedValues::number_from(const SizeFormula& formula) const {
  auto sum = constant_number(0);
  for (std::size_t set = formula.coefficients.size(); set-- > 0;) {
    if (formula.coefficients[set] == 0) continue;
    auto term = constant_number(formula.coefficients[set]);
    for (std::size_t k = 0; k < model_.axes.size(); ++k) {
      if ((set >> k & 1) != 0) term = product_of(term, axis(k));
    }
    sum = sum.is_constant && sum.hint == 0 ? term : sum_of(sum, term);
  }
  return quotient_of(sum, constant_number(formula.divisor));
}

/// A view has as many elements as what it is a view of: the one size that no formula explains is a quotient.
std::optional<SymbolicNumber> ExportedValues::rest_of_reshape(const torch::jit::Value& value,
                                                              std::size_t unknown) const {
  static const std::vector<std::string> views{"reshape", "view", "_unsafe_view", "flatten", "unflatten"};
  const auto* node = value.node();
  if (!node->kind().is_aten() || std::ranges::find(views, node->kind().toUnqualString()) == views.end()) return {};
  const auto source = sizes_.find(node->inputs()[0]);
  if (source == sizes_.end()) return {};
  auto count = constant_number(1), known = constant_number(1);
  for (const auto& size : source->second) count = product_of(count, size);
  const auto& seen = model_.sizes.at(&value).sizes;
  for (std::size_t d = 0; d < seen.size(); ++d) {
    if (d == unknown) continue;
    const auto formula = model_.formula_of(seen[d]);
    if (!formula) return {};
    known = product_of(known, number_from(*formula));
  }
  return quotient_of(count, known);
}

/// Convolutions and pooling give (size + c) / stride, rounded down, and the other way round stride * size + c. The
/// numbers are those that explain all traces, if no others do.
std::optional<SymbolicNumber> ExportedValues::windows_along(const torch::jit::Value& value, std::size_t axis) const {
  const std::string name = value.node()->kind().toUnqualString();
  if (name.find("conv") == std::string::npos && name.find("pool") == std::string::npos) return {};
  const auto* input = value.node()->inputs()[0];
  const auto source = sizes_.find(input);
  if (source == sizes_.end() || axis >= source->second.size()) return {};
  const auto& from = model_.sizes.at(input).sizes[axis];
  const auto& to = model_.sizes.at(&value).sizes[axis];
  const auto explains = [&](const auto& function) {
    return std::ranges::all_of(std::views::iota(std::size_t{0}, to.size()),
                               [&](std::size_t i) { return function(from[i]) == to[i]; });
  };
  for (int64_t stride = 1; stride <= kLongestStride; ++stride) {
    const auto least = to[0] * stride - from[0];  // the least c that explains the first trace
    std::vector<int64_t> fitting;
    for (auto c = least; c < least + stride; ++c) {
      if (explains([&](int64_t size) { return floor_divide(size + c, stride); })) fitting.push_back(c);
    }
    if (fitting.size() == 1) {
      return quotient_of(sum_of(source->second[axis], constant_number(fitting[0])), constant_number(stride));
    }
    const auto offset = to[0] - stride * from[0];
    if (explains([&](int64_t size) { return stride * size + offset; })) {
      return sum_of(product_of(constant_number(stride), source->second[axis]), constant_number(offset));
    }
  }
  return {};
}

bool ExportedValues::find_sizes(const torch::jit::Value& value) {
  const auto found = model_.sizes.find(&value);
  if (found == model_.sizes.end()) return false;
  std::vector<SymbolicNumber> sizes;
  for (std::size_t d = 0; d < found->second.sizes.size(); ++d) {
    const auto& seen = found->second.sizes[d];
    if (const auto formula = model_.formula_of(seen)) {
      sizes.push_back(number_from(*formula));
      continue;
    }
    if (!derived_.contains(seen)) {
      auto number = rest_of_reshape(value, d);
      if (!number) number = windows_along(value, d);
      if (!number) {
        number = SymbolicNumber{"Symbol('u" + std::to_string(unexplained_++) + "', integer=True)", std::nullopt};
      }
      derived_.emplace(seen, *number);
    }
    sizes.push_back(derived_.at(seen));
  }
  sizes_[&value] = std::move(sizes);
  return true;
}

void ExportedValues::name_tensor(const torch::jit::Value& value, const std::string& name) {
  names_[&value] = name;
  const auto type = value.type()->expect<c10::TensorType>();
  const auto& known = model_.sizes.at(&value);
  const auto& sizes = sizes_.at(&value);
  auto size_list = nlohmann::json::array(), stride_list = nlohmann::json::array();
  for (const auto& size : sizes) size_list.push_back(exported_number(size));
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    if (const auto formula = d < known.strides.size() ? model_.formula_of(known.strides[d]) : std::nullopt) {
      stride_list.push_back(exported_number(number_from(*formula)));
      continue;
    }
    auto stride = constant_number(1);  // as if it were contiguous
    for (std::size_t e = d + 1; e < sizes.size(); ++e) stride = product_of(stride, sizes[e]);
    stride_list.push_back(exported_number(stride));
  }
  tensors_[name] = exported_meta(type->scalarType().value(), type->device().value_or(c10::Device(c10::kCPU)),
                                 std::move(size_list), std::move(stride_list), 0, false);
}

void ExportedValues::describe(const std::string& name, const torch::Tensor& tensor) {
  tensors_[name] = exported_meta(tensor, tensor.storage_offset());
}

void ExportedValues::name_tensor(const torch::jit::Value& value, const std::string& name, const torch::Tensor& tensor) {
  names_[&value] = name;
  describe(name, tensor);
}

void ExportedValues::name_number(const torch::jit::Value& value, SymbolicNumber number) {
  numbers_[number.name.value()] = exported_number(number);
  symbolic_[&value] = std::move(number);
}

const std::string& ExportedValues::name_of(const torch::jit::Value& value) const {
  const auto found = names_.find(&value);
  if (found == names_.end()) throw std::logic_error("a value of the graph has no name: " + value.debugName());
  return found->second;
}

const SymbolicNumber* ExportedValues::number_of(const torch::jit::Value& value) const {
  const auto found = symbolic_.find(&value);
  return found == symbolic_.end() ? nullptr : &found->second;
}

}  // namespace troupe
