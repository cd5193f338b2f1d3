#include "troupe/runtime/export/resize_by_factor.hpp"

#include <torch/csrc/jit/ir/constants.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

namespace {

namespace prim = c10::prim;
using torch::jit::Node;
using torch::jit::Value;

/// The factors of an operator that has a number for each axis; nothing if one is missing.
std::optional<std::vector<Value*>> factors_of(const Node& node) {
  std::vector<Value*> factors;
  for (const auto* name : {"scales", "scales_d", "scales_h", "scales_w"}) {
    if (!node.hasNamedInput(name)) continue;
    auto* factor = node.namedInput(name);
    const auto value = torch::jit::toIValue(factor);
    if (!value || !value->isDouble()) return std::nullopt;
    factors.push_back(factor);
  }
  if (factors.empty()) return std::nullopt;
  return factors;
}

}  // namespace

Node* resized_by_factor(const Value& constant) {
  if (constant.uses().size() != 1) return nullptr;
  const auto* list = constant.uses().front().user;
  if (list->kind() != prim::ListConstruct || list->output()->uses().size() != 1) return nullptr;
  auto* node = list->output()->uses().front().user;
  if (std::string(node->kind().toUnqualString()).find("upsample_") == std::string::npos || !node->maybeSchema() ||
      !node->hasNamedInput("output_size") || node->namedInput("output_size") != list->output()) {
    return nullptr;
  }
  const auto factors = factors_of(*node);
  if (!factors) return nullptr;
  for (const auto* factor : *factors) {
    const auto number = torch::jit::toIValue(factor)->toDouble();
    if (number != std::floor(number)) return node;
  }
  return nullptr;
}

void leave_size_to_factors(Node& resize) {
  auto& graph = *resize.owningGraph();
  const torch::jit::WithInsertPoint here(&resize);
  auto* size_list = resize.namedInput("output_size")->node();
  const auto factors = *factors_of(resize);
  std::vector<Value*> inputs{resize.namedInput("self"), graph.insertConstant(c10::IValue())};
  if (resize.hasNamedInput("align_corners")) inputs.push_back(resize.namedInput("align_corners"));
  inputs.push_back(graph.insertNode(graph.createList(c10::FloatType::get(), factors))->output());
  resize.removeAllInputs();
  for (auto* input : inputs) resize.addInput(input);
  size_list->destroy();
}

}  // namespace troupe
