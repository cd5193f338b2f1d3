#include "troupe/runtime/checkpoint/model_state.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"
#include "troupe/runtime/checkpoint/differences.hpp"
#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <ATen/MemoryOverlap.h>
#include <torch/utils.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace troupe {

namespace {

// Elements that share memory can be written to by nobody.
void separate_elements(const torch::Tensor& tensor) {
  if (tensor.layout() != torch::kStrided || tensor.is_nested()) return;
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes) tensor.set_data(tensor.contiguous());
}

}  // namespace

std::vector<std::pair<std::string, torch::Tensor>> named_model_tensors(const torch::nn::Module& module) {
  std::vector<std::pair<std::string, torch::Tensor>> named;
  for (const auto& list : {module.named_parameters(), module.named_buffers()}) {
    for (const auto& item : list) {
      if (item.value().defined()) named.emplace_back(item.key(), item.value());
    }
  }
  return named;
}

std::vector<std::pair<std::string, torch::Tensor>> saved_model_tensors(const torch::nn::Module& module) {
  auto named = named_model_tensors(module);
  const auto* own = dynamic_cast<const Module*>(&module);
  if (!own || !own->save_only_trainable) return named;
  std::unordered_set<const void*> frozen;
  for (const auto& parameter : module.parameters()) {
    if (!parameter.requires_grad()) frozen.insert(parameter.unsafeGetTensorImpl());
  }
  std::erase_if(named, [&](const auto& item) { return frozen.contains(item.second.unsafeGetTensorImpl()); });
  return named;
}

void separate_elements(const torch::nn::Module& module) {
  const torch::NoGradGuard no_gradients;
  for (const auto& [name, tensor] : named_model_tensors(module)) separate_elements(tensor);
}

void refuse_meta(const torch::nn::Module& module) {
  for (const auto& [name, tensor] : named_model_tensors(module)) {
    if (!tensor.is_meta()) continue;
    throw UsageError("'" + shown(name) +
                     "' has no values (it is on the device meta): give the module one that has, as" +
                     " torch::empty_like(tensor, torch::kCPU) makes it");
  }
}

void check_model_storable(const torch::nn::Module& module) {
  for (const auto& [name, tensor] : named_model_tensors(module)) check_storable(name_in_checkpoint(name), tensor);
}

void append_model_state(Checkpoint& checkpoint, const torch::nn::Module& module) {
  for (auto& [name, tensor] : saved_model_tensors(module)) {
    checkpoint.tensors.emplace_back(name_in_checkpoint(name), tensor);
  }
}

std::string describe(const IncompatibleKeys& keys) {
  return Differences{keys.missing_keys, keys.unexpected_keys, {}}.describe();
}

IncompatibleKeys load_model_state(const Checkpoint& checkpoint, torch::nn::Module& module, bool strict) {
  std::unordered_map<std::string_view, const torch::Tensor*> saved;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (const auto bare = name_in_model(name)) saved.emplace(*bare, &tensor);
  }
  const auto live = named_model_tensors(module);
  std::unordered_set<std::string> wanted;
  for (const auto& [name, tensor] : saved_model_tensors(module)) wanted.insert(name);
  Differences differences;
  std::vector<std::pair<torch::Tensor, const torch::Tensor*>> copies;
  for (const auto& [name, tensor] : live) {
    const auto found = saved.find(name);
    if (found == saved.end()) {
      const auto unreadable = checkpoint.unreadable.find(name_in_checkpoint(name));
      if (unreadable == checkpoint.unreadable.end()) {
        if (wanted.contains(name)) differences.missing.push_back(name);
      } else {
        differences.unlike.push_back(shown(name) + " " + unreadable->second);
      }
      continue;
    }
    if (differences.fits(name, *found->second, tensor)) copies.emplace_back(tensor, found->second);
    saved.erase(found);
  }
  // In the file's order: a hash map has none.
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const auto bare = name_in_model(name);
    if (bare && saved.contains(*bare)) differences.left_over.emplace_back(*bare);
  }
  for (const auto& [name, why] : checkpoint.unreadable) {
    const auto bare = name_in_model(name);
    if (bare && std::ranges::none_of(live, [&](const auto& item) { return item.first == *bare; })) {
      differences.left_over.emplace_back(*bare);
    }
  }
  IncompatibleKeys keys;
  if (!strict) {
    keys.missing_keys = std::exchange(differences.missing, {});
    keys.unexpected_keys = std::exchange(differences.left_over, {});
  }
  if (differences.any()) throw UsageError("the checkpoint belongs to another model: " + differences.describe());
  const torch::NoGradGuard no_gradients;
  for (auto& [to, from] : copies) {
    separate_elements(to);
    to.copy_(*from);
  }
  return keys;
}

}  // namespace troupe
