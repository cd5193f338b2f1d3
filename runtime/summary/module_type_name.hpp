// What a submodule is called where a user reads it.
#pragma once

#include <torch/nn/module.h>

#include <string>

namespace troupe {

/// "torch::nn::LinearImpl" -> "Linear", "app::Net<app::Block>" -> "Net<app::Block>".
std::string module_type_name(const torch::nn::Module& module);

}  // namespace troupe
