#include "troupe/runtime/checkpoint/any_weights.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/checkpoint_file.hpp"
#include "troupe/runtime/weights/pth_file.hpp"

#include <string_view>
#include <utility>

namespace troupe {

AnyWeights read_any_weights(const std::filesystem::path& path, const std::string& key) {
  if (is_pth(path)) return {.tensors = pth_weights(path, key), .unreadable = {}};
  if (!key.empty()) {
    throw UsageError(
        path.string() + ": key = \"" + shown(key) +
        "\" belongs to files of torch.save; this one has one set of weights (prefix takes a part of them)");
  }
  constexpr std::string_view model = "model.";  // the optimizer's tensors have another one
  auto checkpoint = read_weights(path);
  AnyWeights out;
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (name.starts_with(model)) out.tensors.emplace_back(name.substr(model.size()), std::move(tensor));
  }
  for (const auto& [name, why] : checkpoint.unreadable) out.unreadable.emplace(name.substr(model.size()), why);
  return out;
}

}  // namespace troupe
