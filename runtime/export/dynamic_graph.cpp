#include "troupe/runtime/export/dynamic_graph.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/export/resize_by_factor.hpp"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <unordered_map>

namespace troupe {

namespace {

namespace prim = c10::prim;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;
using Traces = std::vector<std::shared_ptr<Graph>>;

/// A trace as a list of operators, and its values under names that are equal in all traces.
struct Listing {
  std::vector<Node*> nodes;
  std::unordered_map<const Value*, std::string> names;

  explicit Listing(Graph& graph) {
    const auto inputs = graph.inputs();
    for (std::size_t i = 0; i < inputs.size(); ++i) names[inputs[i]] = "input " + std::to_string(i);
    for (auto* node : graph.nodes()) {
      if (node->kind() == prim::GetAttr) {
        names[node->output()] = "attribute " + parameter_path(*node->output());
        continue;
      }
      for (std::size_t i = 0; i < node->outputs().size(); ++i) {
        names[node->outputs()[i]] = std::to_string(nodes.size()) + "." + std::to_string(i);
      }
      nodes.push_back(node);
    }
  }
  template <typename Values>
  std::vector<std::string> names_of(const Values& values) const {
    std::vector<std::string> out;
    for (const Value* value : values) out.push_back(names.at(value));
    return out;
  }
};

bool same_double(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

bool same_constant(const c10::IValue& a, const c10::IValue& b) {
  if (a.isTensor() && b.isTensor()) {
    const auto &x = a.toTensor(), &y = b.toTensor();
    if (!x.defined() || !y.defined()) return x.defined() == y.defined();
    return x.scalar_type() == y.scalar_type() && x.sizes() == y.sizes() && at::allclose(x, y, 0, 0, true);
  }
  if (a.isDouble() && b.isDouble()) return same_double(a.toDouble(), b.toDouble());
  return a == b;
}

std::optional<std::vector<int64_t>> sizes_of(const Value& value) {
  const auto type = value.type()->cast<c10::TensorType>();
  return type ? type->sizes().concrete_sizes() : std::nullopt;
}

std::optional<std::vector<int64_t>> strides_of(const Value& value) {
  const auto type = value.type()->cast<c10::TensorType>();
  return type ? type->strides().concrete_sizes() : std::nullopt;
}

class Merger {
 public:
  Merger(TracedModel& model, const Traces& traces, const std::vector<DynamicAxis>& axes, const std::string& caller)
      : model_(model), axes_(axes), caller_(caller), graph_(*traces.front()), start_(*graph_.nodes().begin()) {
    for (const auto& axis : axes) trials_.push_back(axis.trial);
    for (const auto& trace : traces) listings_.emplace_back(*trace);
    graphs_ = traces;
  }

  void run() {
    compare_operators();
    for (std::size_t i = 0; i < listings_.front().nodes.size(); ++i) {
      if (listings_.front().nodes[i]->kind() == prim::Constant) merge_constant(i);
    }
    describe_ends();
    describe_values();
    forget_dynamic_sizes();
    for (auto& [constant, formula] : formulas_) constant->replaceAllUsesWith(value_of(formula));
    for (auto& [constant, formula] : formulas_) {
      if (constant->node() != start_) constant->node()->destroy();
    }
    for (auto* resize : resized_by_factor_) leave_size_to_factors(*resize);
  }

 private:
  void compare_operators() const {
    const auto& first = listings_.front();
    for (std::size_t t = 1; t < listings_.size(); ++t) {
      const auto& other = listings_[t];
      const auto count = std::min(first.nodes.size(), other.nodes.size());
      for (std::size_t i = 0; i < count; ++i) {
        const auto &a = *first.nodes[i], &b = *other.nodes[i];
        const bool same = a.kind() == b.kind() && a.outputs().size() == b.outputs().size() &&
                          first.names_of(a.inputs()) == other.names_of(b.inputs());
        if (!same) refuse_other_operators(t, a);
      }
      if (first.nodes.size() != other.nodes.size() ||
          first.names_of(graphs_[0]->outputs()) != other.names_of(graphs_[t]->outputs())) {
        refuse_other_operators(t, *first.nodes.at(count > 0 ? count - 1 : 0));
      }
    }
  }

  [[noreturn]] void refuse_other_operators(std::size_t trial, const Node& node) const {
    throw UsageError(caller_ + ": forward runs other operators for " + sizes_text(trial) + " than for " +
                     sizes_text(0) + ", first at " + describe_node(node) +
                     "; where a size decides what is run, export with that size fixed (dynamic_batch = false, or "
                     "without the axis in dynamic_axes)");
  }

  std::string sizes_text(std::size_t trial) const {
    const auto sizes = trial_sizes(trials_).at(trial);
    std::string out;
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      out += (k > 0 ? ", " : "") + trials_[k].name + " = " + std::to_string(sizes[k]);
    }
    return out;
  }

  void merge_constant(std::size_t index) {
    std::vector<c10::IValue> values;
    for (const auto& listing : listings_) values.push_back(*torch::jit::toIValue(listing.nodes[index]->output()));
    const bool same = std::ranges::all_of(values, [&](const auto& v) { return same_constant(v, values.front()); });
    if (same) return;
    Value* constant = listings_.front().nodes[index]->output();
    if (auto* resize = resized_by_factor(*constant)) {
      resized_by_factor_.insert(resize);
      return;
    }
    std::optional<SizeFormula> formula;
    if (std::ranges::all_of(values, [](const auto& value) { return value.isInt(); })) {
      std::vector<int64_t> numbers;
      for (const auto& value : values) numbers.push_back(value.toInt());
      formula = fit_sizes(trials_, numbers);
    }
    if (!formula) refuse_constant(*constant, values);
    formulas_.emplace_back(constant, *formula);
  }

  [[noreturn]] void refuse_constant(const Value& constant, const std::vector<c10::IValue>& values) const {
    const auto different = std::ranges::find_if(values, [&](const auto& v) { return !same_constant(v, values[0]); });
    const auto trial = static_cast<std::size_t>(different - values.begin());
    std::ostringstream text;
    text << caller_ << ": a value in forward depends on " << sizes_text(0) << " in a way that export cannot follow: ";
    if (values[0].isTensor()) {
      text << "a tensor that is not made by operators";
    } else {
      text << "it is " << values[0] << ", and " << *different << " for " << sizes_text(trial);
    }
    if (!constant.uses().empty()) text << ", at " << describe_node(*constant.uses().front().user);
    text << "; compute it with operators on tensors, or export with that size fixed";
    throw UsageError(text.str());
  }

  /// The sizes (or strides) of one value in all traces; nothing if it is no tensor, or they are unknown.
  std::optional<std::vector<std::vector<int64_t>>> traced_sizes(const std::vector<const Value*>& in_traces,
                                                                decltype(sizes_of)* numbers_of = sizes_of) const {
    std::vector<std::vector<int64_t>> all;
    for (const auto* value : in_traces) {
      auto sizes = numbers_of(*value);
      if (!sizes || (!all.empty() && sizes->size() != all.front().size())) return std::nullopt;
      all.push_back(std::move(*sizes));
    }
    return all;
  }

  /// Gives `value`, the first of its counterparts in all traces, a type without the sizes that differ.
  void forget_dynamic_sizes(Value* value, const std::vector<const Value*>& in_traces) const {
    const auto type = value->type()->cast<c10::TensorType>();
    if (!type || !type->scalarType()) return;
    const auto all = traced_sizes(in_traces);
    if (!all) {
      value->setType(c10::TensorType::create(type->scalarType(), type->device(), std::optional<std::size_t>(), {}));
      return;
    }
    std::vector<std::optional<int64_t>> known;
    for (std::size_t d = 0; d < all->front().size(); ++d) {
      const auto size = all->front()[d];
      const bool fixed = std::ranges::all_of(*all, [&](const auto& sizes) { return sizes[d] == size; });
      known.push_back(fixed ? std::optional(size) : std::nullopt);
    }
    value->setType(c10::TensorType::create(type->scalarType(), type->device(), c10::SymbolicShape(known),
                                           c10::VaryingShape<c10::Stride>(), type->requires_grad()));
  }

  /// Calls visit(value, its counterparts in all traces) for all values.
  template <typename Visit>
  void for_values(Visit visit) {
    for (std::size_t i = 0; i < graph_.inputs().size(); ++i) {
      visit(graph_.inputs()[i], counterparts([&](std::size_t t) { return graphs_[t]->inputs()[i]; }));
    }
    for (std::size_t i = 0; i < listings_.front().nodes.size(); ++i) {
      for (std::size_t o = 0; o < listings_.front().nodes[i]->outputs().size(); ++o) {
        visit(listings_.front().nodes[i]->outputs()[o],
              counterparts([&](std::size_t t) { return listings_[t].nodes[i]->outputs()[o]; }));
      }
    }
  }

  void forget_dynamic_sizes() {
    for_values([&](Value* value, const auto& in_traces) { forget_dynamic_sizes(value, in_traces); });
  }

  void describe_values() {
    for_values([&](Value* value, const auto& in_traces) {
      const auto sizes = traced_sizes(in_traces);
      if (!sizes) return;
      auto& known = model_.sizes[value];
      known.sizes = by_axis(*sizes);
      if (const auto strides = traced_sizes(in_traces, strides_of)) known.strides = by_axis(*strides);
    });
  }

  static std::vector<std::vector<int64_t>> by_axis(const std::vector<std::vector<int64_t>>& by_trace) {
    std::vector<std::vector<int64_t>> out(by_trace.front().size());
    for (const auto& numbers : by_trace) {
      for (std::size_t d = 0; d < numbers.size(); ++d) out[d].push_back(numbers[d]);
    }
    return out;
  }

  template <typename Find>
  std::vector<const Value*> counterparts(Find find) const {
    std::vector<const Value*> out;
    for (std::size_t t = 0; t < graphs_.size(); ++t) out.push_back(find(t));
    return out;
  }

  AxisSizes axis_sizes(const std::vector<const Value*>& in_traces) const {
    AxisSizes out;
    const auto all = traced_sizes(in_traces);
    if (!all) return out;
    for (const auto& values : by_axis(*all)) {
      if (std::ranges::all_of(values, [&](auto value) { return value == values.front(); })) {
        out.push_back({values.front(), ""});
      } else {
        const auto formula = fit_sizes(trials_, values);
        out.push_back({-1, formula ? formula->text(trials_) : ""});
      }
    }
    return out;
  }

  /// The tensors that a trace returns, out of the tuple that holds them if there are several.
  static std::vector<const Value*> returned(const Graph& graph) {
    const auto* output = graph.outputs().at(0);
    if (output->node()->kind() != prim::TupleConstruct) return {output};
    return {output->node()->inputs().begin(), output->node()->inputs().end()};
  }

  void describe_ends() {
    for (std::size_t i = 1; i < graph_.inputs().size(); ++i) {
      model_.inputs.push_back(axis_sizes(counterparts([&](std::size_t t) { return graphs_[t]->inputs()[i]; })));
    }
    for (std::size_t i = 0; i < returned(graph_).size(); ++i) {
      model_.outputs.push_back(axis_sizes(counterparts([&](std::size_t t) { return returned(*graphs_[t])[i]; })));
    }
  }

  Value* size_of_axis(std::size_t k) {
    const auto [input, axis] = axes_[k].places.front();
    return graph_.insert(c10::aten::size, {graph_.inputs()[input + 1], static_cast<int64_t>(axis)});
  }

  /// The formula as operators at the start of the graph.
  Value* value_of(const SizeFormula& formula) {
    const auto text = formula.text(trials_);
    if (const auto found = computed_.find(text); found != computed_.end()) return found->second;
    const torch::jit::WithInsertPoint here(start_);
    Value* sum = nullptr;
    for (std::size_t set = formula.coefficients.size(); set-- > 0;) {
      Value* term = nullptr;
      for (std::size_t k = 0; k < axes_.size(); ++k) {
        if ((set >> k & 1) == 0 || formula.coefficients[set] == 0) continue;
        auto*& size = axis_values_[k];
        if (!size) size = size_of_axis(k);
        term = term ? graph_.insert(c10::aten::mul, {term, size}) : size;
      }
      const auto coefficient = formula.coefficients[set];
      if (coefficient == 0) continue;
      if (!term) {
        sum = sum ? graph_.insert(c10::aten::add, {sum, coefficient}) : graph_.insertConstant(coefficient);
        continue;
      }
      if (coefficient != 1) term = graph_.insert(c10::aten::mul, {term, coefficient});
      sum = sum ? graph_.insert(c10::aten::add, {sum, term}) : term;
    }
    if (formula.divisor != 1) sum = graph_.insert(c10::aten::floordiv, {sum, formula.divisor});
    return computed_[text] = sum;
  }

  TracedModel& model_;
  const std::vector<DynamicAxis>& axes_;
  const std::string& caller_;
  Graph& graph_;
  Node* start_;  ///< what is computed from sizes goes before it
  Traces graphs_;
  std::vector<AxisTrial> trials_;
  std::vector<Listing> listings_;
  std::vector<std::pair<Value*, SizeFormula>> formulas_;
  std::set<Node*> resized_by_factor_;
  std::map<std::string, Value*> computed_;
  std::map<std::size_t, Value*> axis_values_;
};

}  // namespace

void make_dynamic(TracedModel& model, const Traces& traces, const std::vector<DynamicAxis>& axes,
                  const std::string& caller) {
  model.graph = traces.front();
  Merger(model, traces, axes, caller).run();
}

std::string parameter_path(const Value& value) {
  std::string path;
  const auto* node = value.node();
  while (node->kind() == prim::GetAttr) {
    path = node->s(c10::attr::name) + (path.empty() ? "" : "." + path);
    node = node->input()->node();
  }
  return path;
}

std::string describe_node(const Node& node) {
  std::size_t number = 0;
  for (const auto* other : node.owningGraph()->nodes()) {
    if (other->kind() == prim::GetAttr) continue;
    ++number;
    if (other == &node) break;
  }
  std::ostringstream text;
  text << "node " << number << " of the graph: " << node;
  auto line = text.str();
  line.resize(std::min(line.find('\n'), line.size()));
  return line;
}

}  // namespace troupe
