#include "troupe/runtime/export/exported_program.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/export/dynamic_graph.hpp"
#include "troupe/runtime/export/exported_arguments.hpp"
#include "troupe/runtime/export/exported_types.hpp"
#include "troupe/runtime/export/exported_values.hpp"
#include "troupe/runtime/export/in_place.hpp"
#include "troupe/runtime/export/node_place.hpp"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/version.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace troupe {

namespace {

namespace aten = c10::aten;
namespace prim = c10::prim;
using nlohmann::json;
using torch::jit::Node;
using torch::jit::Value;

/// A tree of PyTorch's pytree: the arguments, and what forward returns.
json pytree_leaf() {
  return {{"type", nullptr}, {"context", nullptr}, {"children_spec", json::array()}};
}
json pytree_tuple(std::size_t count) {
  return {{"type", "builtins.tuple"}, {"context", "null"}, {"children_spec", json(count, pytree_leaf())}};
}
std::string pytree_text(json root) {
  return json::array({1, std::move(root)}).dump();
}

class ProgramLowering {
 public:
  explicit ProgramLowering(const TracedModel& model) : model_(model), values_(model) {}

  ExportedProgram run(const std::map<std::string, SizeRange>& size_ranges) {
    auto constraints = range_constraints(size_ranges);
    add_weights(model_.module, "");
    name_constants();
    name_inputs();
    for (const auto* node : model_.graph->nodes()) {
      try {
        lower(*node);
      } catch (const UsageError& error) {
        note_problem(*node, error.what());
      }
    }
    refuse_problems();
    for (std::size_t k = 0; k < values_.unexplained(); ++k) {
      constraints["u" + std::to_string(k)] = {{"min_val", 0}, {"max_val", std::numeric_limits<int64_t>::max() - 1}};
    }
    program_.example = model_.example;
    program_.model = {{"graph_module", graph_module()},   {"opset_version", {{"aten", 10}}},
                      {"range_constraints", constraints}, {"schema_version", {{"major", 8}, {"minor", 17}}},
                      {"verifiers", {"TRAINING"}},        {"torch_version", TORCH_VERSION},
                      {"guards_code", json::array()}};
    return std::move(program_);
  }

 private:
  json range_constraints(const std::map<std::string, SizeRange>& size_ranges) const {
    std::vector<std::string> names;
    for (const auto& axis : model_.axes) names.push_back(axis.name);
    for (const auto& [name, range] : size_ranges) {
      if (std::ranges::find(names, name) == names.end()) {
        throw UsageError("size_ranges names the axis '" + shown(name) + "', which is not dynamic" +
                         (names.empty() ? "" : "; did you mean '" + nearest(name, names) + "'?"));
      }
    }
    auto out = json::object();
    for (std::size_t k = 0; k < model_.axes.size(); ++k) {
      const auto& axis = model_.axes[k];
      const auto found = size_ranges.find(axis.name);
      const auto range = found == size_ranges.end() ? SizeRange{} : found->second;
      if (range.min < 1 || axis.base < range.min || (range.max && axis.base > *range.max)) {
        throw UsageError("the range " + std::to_string(range.min) + " to " +
                         (range.max ? std::to_string(*range.max) : "any") + " of the axis '" + axis.name +
                         "' must begin at 1 or more and hold " + std::to_string(axis.base) +
                         ", the size that the model is traced with");
      }
      out["s" + std::to_string(k)] = {{"min_val", range.min}, {"max_val", range.max ? json(*range.max) : json()}};
    }
    return out;
  }

  // --- What the program is given -----------------------------------------------------------------------------------

  void add_weights(const torch::jit::Module& module, const std::string& prefix) {
    for (const auto& item : module.named_parameters(/*recurse=*/false))
      add_weight(prefix + item.name, item.value, true);
    for (const auto& item : module.named_buffers(/*recurse=*/false)) add_weight(prefix + item.name, item.value, false);
    for (const auto& item : module.named_children()) add_weights(item.value, prefix + item.name + ".");
  }

  void add_weight(const std::string& path, const torch::Tensor& tensor, bool is_parameter) {
    const auto name = values_.unique_name((is_parameter ? "p_" : "b_") + path);
    values_.describe(name, tensor);
    weight_names_[path] = name;
    program_.weights.push_back({path, tensor, is_parameter});
    inputs_.push_back(exported_tensor(name));
    const json argument{{"name", name}};
    input_specs_.push_back(is_parameter
                               ? json{{"parameter", {{"arg", argument}, {"parameter_name", path}}}}
                               : json{{"buffer", {{"arg", argument}, {"buffer_name", path}, {"persistent", true}}}});
  }

  void name_constants() {
    for (const auto* node : model_.graph->nodes()) {
      if (node->kind() != prim::Constant) continue;
      const auto value = torch::jit::toIValue(node->output());
      if (!value || !value->isTensor() || !value->toTensor().defined()) continue;
      const auto path = "constant_" + std::to_string(program_.constants.size());
      const auto name = values_.unique_name("c_" + path);
      values_.name_tensor(*node->output(), name, value->toTensor());
      program_.constants.push_back({path, value->toTensor(), false});
      inputs_.push_back(exported_tensor(name));
      input_specs_.push_back({{"tensor_constant", {{"arg", {{"name", name}}}, {"tensor_constant_name", path}}}});
    }
  }

  void name_inputs() {
    for (std::size_t i = 0; i < model_.input_names.size(); ++i) {
      const auto name = values_.unique_name(model_.input_names[i]);
      const auto& input = *model_.graph->inputs()[i + 1];
      values_.find_sizes(input);
      values_.name_tensor(input, name);
      argument_names_.push_back(name);
      inputs_.push_back(exported_tensor(name));
      input_specs_.push_back({{"user_input", {{"arg", exported_tensor(name)}}}});
    }
  }

  // --- Operators ---------------------------------------------------------------------------------------------------

  void lower(const Node& node) {
    switch (node.kind()) {
      case prim::Constant:
      case prim::ListConstruct:
      case prim::TupleConstruct:
      case prim::ListUnpack: return;
      case prim::GetAttr:
        if (const auto found = weight_names_.find(parameter_path(*node.output())); found != weight_names_.end()) {
          values_.name_again(*node.output(), found->second);
        }
        return;
      case aten::size:
      case aten::mul:
      case aten::add:
      case aten::floordiv:
        if (node.output()->type()->isSubtypeOf(*c10::IntType::get())) return compute(node);
        break;
      default: break;
    }
    check_state(node);
    call(node);
  }

  /// Whole numbers come from sizes: what make_dynamic wrote.
  void compute(const Node& node) {
    const auto operand = [&](std::size_t i) {
      const auto* known = values_.number_of(*node.inputs()[i]);
      return known ? *known : constant_number(torch::jit::toIValue(node.inputs()[i])->toInt());
    };
    if (node.kind() == aten::size) return read_size(node, *operand(1).hint);
    const auto a = operand(0), b = operand(1);
    auto number = node.kind() == aten::mul   ? product_of(a, b)
                  : node.kind() == aten::add ? sum_of(a, b)
                                             : quotient_of(a, b);
    const std::string name = node.kind().toUnqualString();
    const auto argument = [](const SymbolicNumber& one) -> json {
      return one.name ? exported_symbol(*one.name) : exported_int(*one.hint);
    };
    add_number(node, "_operator." + name, name, std::move(number),
               json::array({exported_argument("a", argument(a)), exported_argument("b", argument(b))}));
  }

  void read_size(const Node& node, int64_t dim) {
    const auto& seen = model_.sizes.at(node.inputs()[0]).sizes.at(static_cast<std::size_t>(dim));
    add_number(node, "torch.ops.aten.sym_size.int", "sym_size_int",
               values_.number_from(model_.formula_of(seen).value()),
               json::array({exported_argument("self", exported_tensor(values_.name_of(*node.inputs()[0]))),
                            exported_argument("dim", exported_int(dim))}));
  }

  void add_number(const Node& node, const std::string& target, const std::string& name, SymbolicNumber number,
                  json arguments) {
    number.name = values_.result_name(name);
    add_node(target, std::move(arguments), json::array({exported_symbol(*number.name)}), *number.name);
    values_.name_number(*node.output(), std::move(number));
  }

  void add_node(const std::string& target, json arguments, json outputs, const std::string& name) {
    nodes_.push_back({{"target", target},
                      {"inputs", std::move(arguments)},
                      {"outputs", std::move(outputs)},
                      {"metadata", json::object()},
                      {"is_hop_single_tensor_return", nullptr},
                      {"name", name}});
  }

  /// Whoever runs the program keeps parameters and constants; buffers are its state.
  void check_state(const Node& node) const {
    const auto* changed = changed_argument(node);
    if (!changed) return;
    const auto* owner = owner_of_memory(changed);
    if (owner->node()->kind() == prim::Constant) {
      throw UsageError("it changes a tensor of the module that is no buffer: register it (register_buffer)");
    }
    const auto path = parameter_path(*owner);
    const auto is_parameter = [&](const auto& one) { return one.is_parameter && one.name == path; };
    if (!path.empty() && std::ranges::any_of(program_.weights, is_parameter)) {
      throw UsageError("it changes the parameter '" + path + "', which only training may");
    }
  }

  void call(const Node& node) {
    const auto handle = operator_of(node);
    const auto& schema = handle.schema();
    const auto& name = schema.name();  // "aten::linear"
    const auto colons = name.find("::");
    const auto overload = schema.overload_name().empty() ? "default" : schema.overload_name();
    const auto target = "torch.ops." + name.substr(0, colons) + "." + name.substr(colons + 2) + "." + overload;
    check_sizes(node, handle);
    auto arguments = exported_arguments(node, schema, values_);
    const auto own_name = values_.result_name(name.substr(colons + 2));
    auto outputs = outputs_of(node, own_name);
    add_node(target, std::move(arguments), std::move(outputs), own_name);
  }

  static c10::OperatorHandle operator_of(const Node& node) {
    auto& known = c10::Dispatcher::singleton();
    const auto* schema = node.maybeSchema();
    const auto found = schema ? known.findSchema(schema->operator_name()) : std::nullopt;
    if (!found) throw UsageError("an operator of TorchScript alone");
    // The tracer writes convolutions with switches of cuDNN's behind the arguments that everyone knows.
    if (node.kind() == aten::_convolution) return known.findSchemaOrThrow("aten::convolution", "");
    return *found;
  }

  void check_sizes(const Node& node, const c10::OperatorHandle& handle) {
    const auto* const by_values = "the size of its result depends on values";
    if (handle.hasTag(at::Tag::data_dependent_output)) throw UsageError("its result is no tensor but a value");
    if (handle.hasTag(at::Tag::dynamic_output_shape) && !has_fixed_result(node)) throw UsageError(by_values);
    for (const auto* output : tensors_of(node)) {
      if (!values_.find_sizes(*output)) throw UsageError("the sizes of its result are unknown");
    }
  }

  /// Whether an operator whose result may have a size that depends on values has one that does not.
  static bool has_fixed_result(const Node& node) {
    const std::string name = node.kind().toQualString();
    if (name == "aten::one_hot") {
      const auto classes = torch::jit::toIValue(node.inputs()[1]);
      return classes && classes->toInt() >= 0;
    }
    if (name != "aten::index") return false;
    return std::ranges::none_of(node.inputs()[1]->node()->inputs(), [](const Value* index) {
      const auto type = index->type()->cast<c10::TensorType>();
      return type && (type->scalarType() == c10::ScalarType::Bool || type->scalarType() == c10::ScalarType::Byte);
    });
  }

  /// The tensors that a node gives, out of the list that holds them if it gives a list.
  static std::vector<const Value*> tensors_of(const Node& node) {
    std::vector<const Value*> out;
    for (const auto* output : node.outputs()) {
      if (output->type()->kind() == c10::TypeKind::TensorType) {
        out.push_back(output);
        continue;
      }
      for (const auto& use : output->uses()) {
        if (use.user->kind() != prim::ListUnpack) continue;
        for (const auto* part : use.user->outputs()) out.push_back(part);
      }
    }
    return out;
  }

  json outputs_of(const Node& node, const std::string& own_name) {
    const bool is_list = node.outputs().size() == 1 && node.output()->type()->kind() == c10::TypeKind::ListType;
    auto out = json::array();
    const auto tensors = tensors_of(node);
    for (const auto* tensor : tensors) {
      const auto name = tensors.size() == 1 && !is_list ? own_name : values_.result_name(own_name);
      values_.name_tensor(*tensor, name);
      out.push_back(is_list ? json{{"name", name}} : exported_tensor(name));
    }
    return is_list ? json::array({{{"as_tensors", std::move(out)}}}) : out;
  }

  // --- Problems ----------------------------------------------------------------------------------------------------

  void note_problem(const Node& node, const std::string& what) {
    const auto place = place_of(node);
    const auto text = std::string(node.kind().toQualString()) + " (" + what + ")" + (place.empty() ? "" : " " + place);
    if (std::ranges::find(problems_, text) == problems_.end()) problems_.push_back(text);
    // What comes behind is looked at too.
    for (const auto* tensor : tensors_of(node)) values_.name_again(*tensor, "unknown");
  }

  void refuse_problems() const {
    if (problems_.empty()) return;
    throw UsageError("PyTorch's exported programs cannot hold " + joined(problems_, "; "));
  }

  // --- The whole ---------------------------------------------------------------------------------------------------

  json graph_module() {
    const auto* returned = model_.graph->outputs().at(0);
    const bool is_tuple = returned->node()->kind() == prim::TupleConstruct;
    std::vector<const Value*> results{returned};
    if (is_tuple) results.assign(returned->node()->inputs().begin(), returned->node()->inputs().end());
    auto outputs = json::array(), output_specs = json::array();
    for (const auto* result : results) {
      outputs.push_back(exported_tensor(values_.name_of(*result)));
      output_specs.push_back({{"user_output", {{"arg", outputs.back()}}}});
    }
    json graph{{"inputs", inputs_},
               {"outputs", outputs},
               {"nodes", nodes_},
               {"tensor_values", values_.tensors()},
               {"sym_int_values", values_.numbers()},
               {"sym_bool_values", json::object()},
               {"is_single_tensor_return", false},
               {"custom_obj_values", json::object()},
               {"sym_float_values", json::object()}};
    json arguments{{"type", "builtins.tuple"},
                   {"context", "null"},
                   {"children_spec",
                    {pytree_tuple(argument_names_.size()),
                     {{"type", "builtins.dict"}, {"context", "[]"}, {"children_spec", json::array()}}}}};
    json signature{{"inputs", json::array()},
                   {"outputs", json::array()},
                   {"in_spec", pytree_text(std::move(arguments))},
                   {"out_spec", pytree_text(is_tuple ? pytree_tuple(results.size()) : pytree_leaf())},
                   {"forward_arg_names", argument_names_}};
    return {{"graph", std::move(graph)},
            {"signature", {{"input_specs", input_specs_}, {"output_specs", output_specs}}},
            {"module_call_graph", json::array({{{"fqn", ""}, {"signature", std::move(signature)}}})},
            {"metadata", json::object()},
            {"treespec_namedtuple_fields", json::object()}};
  }

  const TracedModel& model_;
  ExportedProgram program_;
  ExportedValues values_;
  std::map<std::string, std::string> weight_names_;  ///< path -> name in the graph
  std::vector<std::string> argument_names_;
  json inputs_ = json::array(), input_specs_ = json::array(), nodes_ = json::array();
  std::vector<std::string> problems_;
};

}  // namespace

ExportedProgram to_program(const TracedModel& model, const std::map<std::string, SizeRange>& size_ranges) {
  return ProgramLowering(model).run(size_ranges);
}

}  // namespace troupe
