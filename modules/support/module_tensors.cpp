#include "troupe/modules/support/module_tensors.hpp"

#include <unordered_map>

namespace troupe {

namespace {

std::vector<ModuleTensor> each_once(const torch::OrderedDict<std::string, torch::Tensor>& named) {
  std::vector<ModuleTensor> tensors;
  std::unordered_map<const void*, std::size_t> places;
  for (const auto& item : named) {
    if (!item.value().defined()) continue;
    const auto [place, is_new] = places.try_emplace(item.value().unsafeGetTensorImpl(), tensors.size());
    if (is_new) tensors.push_back({item.value(), {}});
    tensors[place->second].names.push_back(item.key());
  }
  return tensors;
}

}  // namespace

std::vector<ModuleTensor> distinct_parameters(const torch::nn::Module& module, bool recurse) {
  return each_once(module.named_parameters(recurse));
}

std::vector<ModuleTensor> distinct_buffers(const torch::nn::Module& module, bool recurse) {
  return each_once(module.named_buffers(recurse));
}

}  // namespace troupe
