// What a type is called where a user reads it.
#pragma once

#include <torch/nn/module.h>

#include <string>
#include <typeinfo>

namespace troupe {

/// "torch::nn::LinearImpl" -> "Linear", "app::Net<app::Block>" -> "Net<app::Block>".
std::string module_type_name(const torch::nn::Module& module);

/// The same of any class, as it is called in the source: "EarlyStopping".
std::string type_name(const std::type_info& type);

}  // namespace troupe
