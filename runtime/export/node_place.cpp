#include "troupe/runtime/export/node_place.hpp"

#include "troupe/runtime/export/dynamic_graph.hpp"

#include <set>
#include <utility>
#include <vector>

namespace troupe {

namespace {

/// "encoder.0" for the weight "encoder.0.weight".
std::string module_of_weight(const std::string& path) {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

}  // namespace

std::string place_of(const torch::jit::Node& node) {
  std::set<const torch::jit::Node*> seen{&node};
  std::vector<const torch::jit::Node*> front{&node};
  for (bool is_own = true; !front.empty(); is_own = false) {
    std::vector<const torch::jit::Node*> next;
    for (const auto* at : front) {
      for (const auto* input : at->inputs()) {
        const auto path = parameter_path(*input);
        if (!path.empty()) {
          const auto module = module_of_weight(path);
          return (is_own ? "in the module '" : "behind the module '") + (module.empty() ? "(root)" : module) + "'";
        }
        if (seen.insert(input->node()).second) next.push_back(input->node());
      }
    }
    front = std::move(next);
  }
  return "";
}

}  // namespace troupe
