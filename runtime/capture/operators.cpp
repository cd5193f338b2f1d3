#include "troupe/runtime/capture/operators.hpp"

#include <ATen/core/enum_tag.h>

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <vector>

namespace troupe::capture {

namespace {

using c10::OperatorHandle;

// The overloads of each name.
const std::vector<c10::OperatorName>& overloads_of(const std::string& name) {
  static const auto all = [] {
    std::map<std::string, std::vector<c10::OperatorName>> by_name;
    for (auto& each : c10::Dispatcher::singleton().getAllOpNames()) by_name[each.name].push_back(each);
    return by_name;
  }();
  static const std::vector<c10::OperatorName> none;
  const auto found = all.find(name);
  return found == all.end() ? none : found->second;
}

bool is_output(const c10::Argument& argument) {
  return argument.kwarg_only() && argument.alias_info() && argument.alias_info()->isWrite();
}

// The arguments of `plain` and then one tensor for each of its results.
bool takes_results_of(const c10::FunctionSchema& twin, const c10::FunctionSchema& plain) {
  const auto& ours = twin.arguments();
  const auto& theirs = plain.arguments();
  if (ours.size() != theirs.size() + plain.returns().size() || twin.returns().size() != plain.returns().size()) {
    return false;
  }
  const auto is_same = [](const c10::Argument& a, const c10::Argument& b) {
    return a.name() == b.name() && *a.type() == *b.type();
  };
  if (!std::equal(theirs.begin(), theirs.end(), ours.begin(), is_same)) return false;
  return std::all_of(
      ours.begin() + static_cast<std::ptrdiff_t>(theirs.size()), ours.end(),
      [](const c10::Argument& each) { return is_output(each) && each.type()->kind() == c10::TypeKind::TensorType; });
}

template <std::size_t N>
bool is_one_of(const OperatorHandle& op, const std::array<std::string_view, N>& names) {
  return std::ranges::find(names, std::string_view(op.schema().name())) != names.end();
}

}  // namespace

std::string name_of(const OperatorHandle& op) {
  const auto& name = op.operator_name();
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

std::string reason_against(const OperatorHandle& op) {
  const auto& schema = op.schema();
  const std::string name = name_of(op);
  if (schema.name() == "aten::_local_scalar_dense") {
    return "it reads a number back to the host (item(), or a condition on a tensor)";
  }
  if (op.hasTag(at::Tag::data_dependent_output)) return name + " reads values back to the host";
  if (op.hasTag(at::Tag::dynamic_output_shape) && schema.name() != "aten::index") {
    return "the shape of " + name + "'s result depends on values";
  }
  constexpr std::array<std::string_view, 5> reshaping = {"aten::set_", "aten::resize_", "aten::resize_as_",
                                                         "aten::set_data", "aten::swap_"};
  if (op.hasTag(at::Tag::inplace_view) || is_one_of(op, reshaping)) {
    return name + " changes the shape of a tensor in place";
  }
  for (const auto& result : schema.returns()) {
    const auto kind = result.type()->kind();
    const bool is_list =
        kind == c10::TypeKind::ListType &&
        result.type()->expectRef<c10::ListType>().getElementType()->kind() == c10::TypeKind::TensorType;
    if (kind != c10::TypeKind::TensorType && !is_list) {
      return name + " gives the host " + result.type()->str() + ", not a tensor";
    }
  }
  return "";
}

// The running statistics of batch norm are written without the schema's saying so.
bool writes(const OperatorHandle& op, std::size_t index) {
  if (op.schema().name() == "aten::native_batch_norm") {
    return op.schema().arguments()[index].name().starts_with("running_");
  }
  const auto* alias = op.schema().arguments()[index].alias_info();
  return alias && alias->isWrite();
}

bool views(const OperatorHandle& op, std::size_t index) {
  const auto* alias = op.schema().arguments()[index].alias_info();
  return alias && !alias->isWrite();
}

bool writes_any(const OperatorHandle& op) {
  for (std::size_t i = 0; i < op.schema().arguments().size(); ++i) {
    if (writes(op, i)) return true;
  }
  return false;
}

bool overwrites(const OperatorHandle& op) {
  constexpr std::array<std::string_view, 11> names = {
      "aten::fill_",   "aten::zero_",   "aten::copy_",        "aten::bernoulli_", "aten::normal_",    "aten::uniform_",
      "aten::random_", "aten::cauchy_", "aten::exponential_", "aten::geometric_", "aten::log_normal_"};
  const auto& arguments = op.schema().arguments();
  return is_one_of(op, names) || std::ranges::any_of(arguments, is_output);
}

bool only_allocates(const OperatorHandle& op) {
  constexpr std::array<std::string_view, 5> names = {"aten::empty", "aten::empty_strided", "aten::empty_like",
                                                     "aten::new_empty", "aten::new_empty_strided"};
  return is_one_of(op, names);
}

bool draws(const OperatorHandle& op) {
  return op.hasTag(at::Tag::nondeterministic_seeded);
}

std::optional<OperatorHandle> out_twin(const OperatorHandle& op) {
  const auto& schema = op.schema();
  // Losses with a reduction make their result as large as their inputs first, and warn of memory that is not.
  const bool is_reduced =
      std::ranges::any_of(schema.arguments(), [](const auto& each) { return each.name() == "reduction"; });
  if (is_reduced && schema.name().find("nll_loss") == std::string::npos) return std::nullopt;
  for (const auto& name : overloads_of(schema.name())) {
    const auto twin = c10::Dispatcher::singleton().findSchema(name);
    if (!twin || twin->hasTag(at::Tag::generated) || !takes_results_of(twin->schema(), schema)) continue;
    if (twin->hasComputedKernelForDispatchKey(c10::DispatchKey::CPU)) return twin;
  }
  return std::nullopt;
}

}  // namespace troupe::capture
