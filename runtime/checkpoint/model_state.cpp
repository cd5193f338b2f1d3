#include "troupe/runtime/checkpoint/model_state.hpp"

#include "troupe/modules/failure.hpp"
#include "troupe/runtime/checkpoint/differences.hpp"

#include <torch/utils.h>

#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace troupe {

namespace {

constexpr std::string_view prefix = "model.";

std::vector<std::pair<std::string, torch::Tensor>> named_tensors(const torch::nn::Module& module) {
  std::vector<std::pair<std::string, torch::Tensor>> named;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      if (item.value().defined()) named.emplace_back(item.key(), item.value());
    }
  }
  return named;
}

}  // namespace

void append_model_state(Checkpoint& checkpoint, const torch::nn::Module& module) {
  for (auto& [name, tensor] : named_tensors(module)) checkpoint.tensors.emplace_back(prefix.data() + name, tensor);
}

std::string describe(const IncompatibleKeys& keys) {
  return Differences{keys.missing_keys, keys.unexpected_keys, {}}.describe();
}

IncompatibleKeys load_model_state(const Checkpoint& checkpoint, torch::nn::Module& module, bool strict) {
  std::unordered_map<std::string_view, const torch::Tensor*> saved;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(prefix)) saved.emplace(std::string_view(name).substr(prefix.size()), &tensor);
  }
  const auto live = named_tensors(module);
  Differences differences;
  std::vector<std::pair<torch::Tensor, const torch::Tensor*>> copies;
  for (const auto& [name, tensor] : live) {
    const auto found = saved.find(name);
    if (found == saved.end()) {
      differences.missing.push_back(name);
      continue;
    }
    if (differences.fits(name, *found->second, tensor)) copies.emplace_back(tensor, found->second);
    saved.erase(found);
  }
  // In the file's order: a hash map has none.
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (!name.starts_with(prefix)) continue;
    const auto bare = std::string_view(name).substr(prefix.size());
    if (saved.contains(bare)) differences.left_over.emplace_back(bare);
  }
  IncompatibleKeys keys;
  if (!strict) {
    keys.missing_keys = std::exchange(differences.missing, {});
    keys.unexpected_keys = std::exchange(differences.left_over, {});
  }
  if (differences.any()) throw UsageError("the checkpoint belongs to another model: " + differences.describe());
  const torch::NoGradGuard no_gradients;
  for (auto& [to, from] : copies) to.copy_(*from);
  return keys;
}

}  // namespace troupe
