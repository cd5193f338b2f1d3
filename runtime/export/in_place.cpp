#include "troupe/runtime/export/in_place.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/export/dynamic_graph.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

namespace troupe {

namespace {

namespace prim = c10::prim;
using torch::jit::Node;
using torch::jit::Value;

/// Values that may be one memory.
class Aliases {
 public:
  void join(const Value* value, const Value* with) {
    auto group = groups_.find(with);
    if (group == groups_.end()) group = groups_.emplace(with, with).first;
    members_[group->second].push_back(value);
    groups_[value] = group->second;
  }
  bool knows(const Value* value) const { return groups_.contains(value); }
  /// `value` and the others.
  std::vector<const Value*> of(const Value* value) const {
    const auto group = groups_.find(value);
    if (group == groups_.end()) return {value};
    auto all = members_.at(group->second);
    all.push_back(group->second);
    return all;
  }

 private:
  std::unordered_map<const Value*, const Value*> groups_;
  std::unordered_map<const Value*, std::vector<const Value*>> members_;
};

/// The argument that the outputs may share memory with; null if they do not.
const Value* source_of(const Node& node) {
  // Without training, dropout gives its input; its schema does not say so.
  static const std::vector<std::string> identities{"aten::dropout", "aten::feature_dropout", "aten::alpha_dropout",
                                                   "aten::feature_alpha_dropout"};
  if (std::ranges::find(identities, node.kind().toQualString()) != identities.end()) return node.inputs()[0];
  const auto* schema = node.maybeSchema();
  if (!schema || schema->returns().empty() || !schema->returns()[0].alias_info()) return nullptr;
  for (std::size_t i = 0; i < schema->arguments().size(); ++i) {
    if (schema->arguments()[i].alias_info()) return node.inputs()[i];
  }
  return nullptr;
}

}  // namespace

const Value* changed_argument(const Node& node) {
  const auto* schema = node.maybeSchema();
  for (std::size_t i = 0; schema && i < schema->arguments().size(); ++i) {
    const auto* alias = schema->arguments()[i].alias_info();
    if (alias && alias->isWrite()) return node.inputs()[i];
  }
  return nullptr;
}

const Value* owner_of_memory(const Value* value) {
  for (;;) {
    const auto* node = value->node();
    const auto* source = node->kind() == prim::ListUnpack ? node->input() : source_of(*node);
    if (!source) return value;
    value = source;
  }
}

bool works_in_place(const Node& node) {
  return changed_argument(node) != nullptr;
}

void check_in_place(const torch::jit::Graph& graph) {
  std::unordered_map<const Node*, std::size_t> position;
  std::size_t count = 0;
  for (const auto* node : graph.nodes()) position[node] = count++;
  position[graph.return_node()] = count;
  Aliases aliases;
  for (const auto* node : graph.nodes()) {
    if (const auto* changed = changed_argument(*node)) {
      for (const auto* value : aliases.of(changed)) {
        for (const auto& use : value->uses()) {
          if (position.at(use.user) <= position.at(node)) continue;
          throw UsageError(std::string("forward changes a tensor in place (") + node->kind().toQualString() +
                           ") that is also read as another view of the same memory, which ONNX cannot express; make "
                           "the new tensor with torch::where, torch::cat or torch::stack instead; it is " +
                           describe_node(*node));
        }
      }
    }
    // The parts of a list are views where the list is one: chunk's are, unsafe_chunk's are not.
    const bool unpacks_views = node->kind() == prim::ListUnpack && aliases.knows(node->input());
    if (const auto* source = unpacks_views ? node->input() : source_of(*node)) {
      for (const auto* output : node->outputs()) aliases.join(output, source);
    }
  }
}

}  // namespace troupe
