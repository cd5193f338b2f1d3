// Weights out of a file of whatever format.
#pragma once

#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace troupe {

struct AnyWeights {
  NamedTensors tensors;
  /// Tensors that cannot be read, by name, and why.
  std::map<std::string, std::string, std::less<>> unreadable;
};

/// The weights in a file of torch.save (`key` as in pth_weights), a safetensors file or a checkpoint, by the names that
/// they have in their module; the format is found by the content. Throws UsageError for what cannot be read, and for a
/// `key` of a file that has none.
AnyWeights read_any_weights(const std::filesystem::path& path, const std::string& key = {});

}  // namespace troupe
