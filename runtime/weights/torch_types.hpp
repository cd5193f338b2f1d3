// Types of tensors by the names that torch.save gives them.
#pragma once

#include <torch/types.h>

#include <span>
#include <string_view>

namespace troupe {

struct TorchType {
  std::string_view name;  ///< without "torch."
  torch::ScalarType dtype;
  /// The class of its storages, for types that are older than untyped storages.
  std::string_view storage = {};
  bool is_saved = true;  ///< whether torch.save and torch.load know it
};

/// Those that files of torch.save may name.
std::span<const TorchType> torch_types();
/// The one of `dtype`; nullptr for those that such a file cannot name (quantized ones).
const TorchType* torch_type(torch::ScalarType dtype);

}  // namespace troupe
