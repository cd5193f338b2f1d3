// What a checkpoint holds, apart from how it is written.
#pragma once

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// The model's parameters and buffers begin so in a checkpoint, and nothing else does.
inline constexpr std::string_view model_prefix = "model.";

/// The name that a checkpoint has for the parameter or buffer `name`.
inline std::string name_in_checkpoint(std::string_view name) {
  return std::string(model_prefix) + std::string(name);
}

/// The name that the module has for a checkpoint's tensor; nothing if it is not the model's.
inline std::optional<std::string_view> name_in_model(std::string_view name) {
  if (!name.starts_with(model_prefix)) return std::nullopt;
  return name.substr(model_prefix.size());
}

/// Named tensors in order, and JSON: `model.<name>`, `optimizer.<i>.<param name>.<state>`, random states; hparams,
/// progress, sampler positions, callbacks and versions in the metadata. See docs/checkpoint-format.md.
struct Checkpoint {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  nlohmann::json metadata = nlohmann::json::object();
  /// Tensors of types that this library does not know, by name, and why: only in weights that another program wrote.
  std::map<std::string, std::string, std::less<>> unreadable = {};

  /// The tensor called `name`, or nullptr.
  const torch::Tensor* find(std::string_view name) const {
    for (const auto& [key, tensor] : tensors) {
      if (key == name) return &tensor;
    }
    return nullptr;
  }
};

}  // namespace troupe
