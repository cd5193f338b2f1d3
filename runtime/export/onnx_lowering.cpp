#include "troupe/runtime/export/onnx_lowering.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/export/dynamic_graph.hpp"
#include "troupe/runtime/export/in_place.hpp"
#include "troupe/runtime/export/node_place.hpp"
#include "troupe/runtime/export/onnx_bfloat16.hpp"
#include "troupe/runtime/export/onnx_call.hpp"
#include "troupe/runtime/export/onnx_problems.hpp"
#include "troupe/runtime/export/registered_onnx_operators.hpp"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>

namespace troupe {

namespace {

namespace aten = c10::aten;
namespace prim = c10::prim;
using torch::jit::Node;
using torch::jit::Value;

std::string base_name(const Node& node) {
  std::string name = node.kind().toUnqualString();
  if (works_in_place(node) && name.ends_with('_')) name.pop_back();
  return name;
}

std::string qualified_base_name(const Node& node) {
  return std::string(node.kind().ns().toUnqualString()) + "::" + base_name(node);
}

class Lowering {
 public:
  Lowering(const TracedModel& model, int64_t opset_version) : model_(model), builder_(opset_version) {}

  OnnxGraph run(const std::vector<std::string>& output_names) {
    try {
      check_in_place(*model_.graph);
    } catch (const UsageError& error) {
      problems_.add(error.what());
    }
    add_inputs();
    for (const auto* node : model_.graph->nodes()) {
      if (has_unknown_input(*node)) {
        leave_unknown(*node);
        continue;
      }
      try {
        lower(*node);
      } catch (const UsageError& error) {
        problems_.add(error.what(), place_of(*node), describe_node(*node));
        leave_unknown(*node);
      }
    }
    problems_.throw_if_any();
    add_outputs(output_names);
    return std::move(builder_.graph());
  }

 private:
  static std::vector<OnnxDim> dims_of(const AxisSizes& sizes) {
    std::vector<OnnxDim> dims;
    for (const auto& axis : sizes) dims.push_back(axis.size >= 0 ? OnnxDim(axis.size) : OnnxDim(axis.text));
    return dims;
  }

  void add_inputs() {
    const auto inputs = model_.graph->inputs();
    for (std::size_t i = 0; i < model_.input_names.size(); ++i) {
      auto& value = values_[inputs[i + 1]];
      value.kind = OnnxValue::Kind::tensor;
      const auto type = inputs[i + 1]->type()->expect<c10::TensorType>();
      value.tensor.name = builder_.unique_name(model_.input_names[i]);
      value.tensor.dtype = *type->scalarType();
      if (onnx_type(value.tensor.dtype) == 0) {
        throw UsageError(std::string("ONNX has no tensors of ") + c10::toString(value.tensor.dtype) +
                         ", as the input '" + model_.input_names[i] + "' is");
      }
      for (const auto& axis : model_.inputs[i]) value.tensor.sizes.push_back(axis.size);
      builder_.graph().inputs.push_back({value.tensor.name, value.tensor.dtype, dims_of(model_.inputs[i])});
    }
  }

  void add_outputs(const std::vector<std::string>& wanted) {
    const auto* returned = model_.graph->outputs().at(0);
    std::vector<OnnxValue> outputs{values_.at(returned)};
    if (outputs[0].kind == OnnxValue::Kind::list) outputs = std::vector<OnnxValue>(outputs[0].list);
    const auto names = output_names(wanted, outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto& output = outputs[i];
      const bool is_weight = output.kind == OnnxValue::Kind::constant;
      const auto dtype = is_weight ? output.constant.toTensor().scalar_type() : output.tensor.dtype;
      const auto inner =
          is_weight ? builder_.constant(output.constant.toTensor(), output.path.empty() ? "constant" : output.path)
                    : output.tensor.name;
      builder_.graph().nodes.push_back({"Identity", {inner}, {names[i]}, {}});
      builder_.graph().outputs.push_back({names[i], dtype, dims_of(model_.outputs.at(i))});
    }
  }

  std::vector<std::string> output_names(const std::vector<std::string>& wanted, std::size_t count) {
    std::vector<std::string> names;
    if (wanted.empty()) {
      for (std::size_t i = 0; i < count; ++i) {
        names.push_back(builder_.unique_name(count == 1 ? "output" : "output_" + std::to_string(i)));
      }
      return names;
    }
    if (wanted.size() != count) {
      throw UsageError(std::to_string(wanted.size()) + " output_names were given for " + std::to_string(count) +
                       " outputs");
    }
    for (const auto& name : wanted) {
      if (name.empty()) throw UsageError("output_names must not be empty");
      if (builder_.unique_name(name) != name) {
        throw UsageError("the output name '" + shown(name) + "' is taken by an input, a weight or another output");
      }
    }
    return wanted;
  }

  void lower(const Node& node) {
    if (node.kind() == prim::GetAttr) return read_attribute(node);
    if (node.kind() == prim::Constant) return set(node, constant_of(*torch::jit::toIValue(node.output())));
    if (node.kind() == prim::ListConstruct || node.kind() == prim::TupleConstruct) return make_list(node);
    if (node.kind() == prim::ListUnpack || node.kind() == prim::TupleUnpack) return unpack_list(node);
    if (node.outputs().size() == 1 && node.output()->type()->isSubtypeOf(*c10::IntType::get())) return compute(node);
    const auto write = operator_for(node);
    if (!write) return node.isNondeterministic() || !fold(node) ? refuse_operator(node) : void();
    OnnxCall call(builder_, values_, node);
    const auto written = builder_.graph().nodes.size();
    write(call);
    if (meets_bfloat16(node)) check_bfloat16(call, written);
  }

  /// How the node is written, as its user says or as the library knows; empty if neither does.
  static OnnxOperator operator_for(const Node& node) {
    if (!node.maybeSchema()) return {};
    auto registered = registered_onnx_operator(node.kind().toQualString());
    if (!registered) registered = registered_onnx_operator(qualified_base_name(node));
    if (registered) return [registered](OnnxCall& call) { write_registered(registered, call); };
    const auto& operators = onnx_operators();
    const auto found = node.kind().is_aten() ? operators.find(base_name(node)) : operators.end();
    return found == operators.end() ? OnnxOperator() : found->second;
  }

  /// Whether an argument has no value because what makes it has no mapping.
  bool has_unknown_input(const Node& node) const {
    if (node.kind() == prim::GetAttr) return false;
    return std::ranges::any_of(node.inputs(), [&](const auto* input) { return !values_.contains(input); });
  }

  /// Goes on behind a node that cannot be written, so that the message has what else there is: its tensors count as
  /// known if ONNX has their type, and what uses another of its results is passed over.
  void leave_unknown(const Node& node) {
    OnnxCall call(builder_, values_, node);
    for (std::size_t i = 0; i < node.outputs().size(); ++i) {
      const auto type = node.outputs()[i]->type()->cast<c10::TensorType>();
      if (type && type->scalarType() && onnx_type(*type->scalarType()) != 0) {
        call.returns(builder_.unique_name("unknown"), i);
      } else {
        values_.erase(node.outputs()[i]);
      }
    }
  }

  bool meets_bfloat16(const Node& node) const {
    return std::ranges::any_of(node.inputs(), [&](const auto* input) { return is_bfloat16(*input); }) ||
           std::ranges::any_of(node.outputs(), [&](const auto* output) { return is_bfloat16(*output); });
  }
  bool is_bfloat16(const Value& value) const {
    const auto found = values_.find(&value);
    if (found == values_.end()) return false;
    const auto& known = found->second;
    if (known.kind == OnnxValue::Kind::tensor) return known.tensor.dtype == torch::kBFloat16;
    return known.kind == OnnxValue::Kind::constant && known.constant.isTensor() &&
           known.constant.toTensor().scalar_type() == torch::kBFloat16;
  }
  /// The nodes from `first` on belong to a call that computes in bfloat16.
  void check_bfloat16(const OnnxCall& call, std::size_t first) {
    const auto& nodes = builder_.graph().nodes;
    for (auto i = first; i < nodes.size(); ++i) {
      if (!nodes[i].domain.empty()) continue;
      const auto why = why_no_bfloat16(nodes[i].op_type, builder_.opset_version());
      if (!why.empty()) call.refuse(why);
    }
  }

  static OnnxValue constant_of(c10::IValue value) {
    OnnxValue out;
    if (value.isTensorList() && !value.toListRef().empty()) {
      out.kind = OnnxValue::Kind::list;
      for (const auto& tensor : value.toTensorVector()) out.list.push_back(constant_of(tensor));
      return out;
    }
    out.constant = std::move(value);
    return out;
  }

  void set(const Node& node, OnnxValue value) { values_[node.output()] = std::move(value); }

  void read_attribute(const Node& node) {
    if (!node.output()->type()->isSubtypeOf(*c10::TensorType::get())) return;  // a module on the way
    auto owner = model_.module;
    const auto path = parameter_path(*node.output());
    std::size_t start = 0;
    for (auto dot = path.find('.'); dot != std::string::npos; dot = path.find('.', start)) {
      owner = owner.attr(path.substr(start, dot - start)).toModule();
      start = dot + 1;
    }
    auto weight = constant_of(owner.attr(path.substr(start)).toTensor());
    weight.path = path;
    set(node, std::move(weight));
  }

  void make_list(const Node& node) {
    OnnxValue list;
    list.kind = OnnxValue::Kind::list;
    for (const auto* input : node.inputs()) list.list.push_back(values_.at(input));
    set(node, std::move(list));
  }

  void unpack_list(const Node& node) {
    const auto list = values_.at(node.input()).list;
    if (list.size() != node.outputs().size()) throw UsageError("a list has another length than in the trace");
    for (std::size_t i = 0; i < list.size(); ++i) {
      values_[node.outputs()[i]] = list[i];
      if (list[i].kind != OnnxValue::Kind::tensor) continue;
      const OnnxCall call(builder_, values_, node);
      auto typed = call.output(i);
      typed.name = list[i].tensor.name;
      values_[node.outputs()[i]].tensor = std::move(typed);
    }
  }

  /// Whole numbers come from sizes: size, mul, add and floordiv, which make_dynamic wrote.
  void compute(const Node& node) {
    const auto int_of = [&](std::size_t i) {
      const auto& value = values_.at(node.inputs()[i]);
      return value.kind == OnnxValue::Kind::integer ? OnnxInt{0, value.integer} : OnnxInt{value.constant.toInt(), ""};
    };
    OnnxValue out;
    out.kind = OnnxValue::Kind::integer;
    if (node.kind() == aten::size) {
      auto input = values_.at(node.inputs()[0]).tensor;
      out.integer = builder_.size_of(input, int_of(1).value).name;
    } else {
      const auto* op = node.kind() == aten::mul ? "Mul" : node.kind() == aten::add ? "Add" : "Div";
      out.integer = builder_.add(op, {builder_.ints({int_of(0)}), builder_.ints({int_of(1)})});
    }
    set(node, std::move(out));
  }

  std::optional<c10::IValue> known(const OnnxValue& value) const {
    if (value.kind == OnnxValue::Kind::constant) return value.constant;
    if (value.kind != OnnxValue::Kind::list) return std::nullopt;
    std::vector<c10::IValue> elements;
    for (const auto& element : value.list) {
      const auto one = known(element);
      if (!one) return std::nullopt;
      elements.push_back(*one);
    }
    if (std::ranges::all_of(elements, [](const auto& e) { return e.isInt(); })) {
      std::vector<int64_t> numbers;
      for (const auto& element : elements) numbers.push_back(element.toInt());
      return numbers;
    }
    if (std::ranges::all_of(elements, [](const auto& e) { return e.isTensor(); })) {
      std::vector<torch::Tensor> tensors;
      for (const auto& element : elements) tensors.push_back(element.toTensor());
      return tensors;
    }
    return std::nullopt;
  }

  /// Computes a node that depends on weights alone; false if it does not.
  bool fold(const Node& node) {
    if (!node.maybeSchema() || works_in_place(node)) return false;
    torch::jit::Stack stack;
    for (const auto* input : node.inputs()) {
      const auto value = known(values_.at(input));
      if (!value) return false;
      stack.push_back(*value);
    }
    const torch::NoGradGuard no_grad;
    node.getOperation()(stack);
    for (std::size_t i = 0; i < node.outputs().size(); ++i) values_[node.outputs()[i]] = constant_of(stack.at(i));
    return true;
  }

  [[noreturn]] static void refuse_operator(const Node& node) {
    std::string text = std::string("the operator ") + node.kind().toQualString() + " has no mapping to ONNX";
    std::vector<std::string> names;
    for (const auto& [name, how] : onnx_operators()) names.push_back(name);
    const auto name = base_name(node);
    const auto is_near = [&](const std::string& one, const std::string& other) {
      return !other.empty() && edit_distance(one, other) <= 1 + name.size() / 4;
    };
    const auto similar = nearest(name, names);
    const auto registered = nearest(qualified_base_name(node), registered_onnx_operator_names());
    if (is_near(qualified_base_name(node), registered)) {
      text += " (" + registered + " has one)";
    } else if (node.kind().is_aten() && is_near(name, similar)) {
      text += " (aten::" + similar + " has one)";
    }
    if (!node.kind().is_aten() && !node.kind().is_prim()) text += ": register_onnx_operator says how it is written";
    throw UsageError(text);
  }

  const TracedModel& model_;
  OnnxBuilder builder_;
  OnnxCall::Values values_;
  OnnxProblems problems_;
};

}  // namespace

OnnxGraph lower_to_onnx(const TracedModel& model, const std::vector<std::string>& output_names, int64_t opset_version) {
  return Lowering(model, opset_version).run(output_names);
}

}  // namespace troupe
