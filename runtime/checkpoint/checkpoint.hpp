// What a checkpoint holds, apart from how it is written.
#pragma once

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

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
