// Tensors and checkpoints as bytes, for other ranks of one run: no format to keep, and never read from a file.
#pragma once

#include "troupe/runtime/checkpoint/checkpoint.hpp"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include <string>

namespace troupe {

/// With binary members: for CBOR.
nlohmann::json packed_tensor(const torch::Tensor& tensor);
torch::Tensor unpacked_tensor(const nlohmann::json& json);

std::string cbor_text(const nlohmann::json& json);

std::string packed_checkpoint(const Checkpoint& checkpoint);
Checkpoint unpacked_checkpoint(const std::string& bytes);

}  // namespace troupe
