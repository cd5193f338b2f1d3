// What an optimizer is called in logs.
#pragma once

#include <torch/optim/optimizer.h>

#include <string>

namespace troupe::optim {

/// PyTorch's name of its class ("Adam", "SGD"), of the library's own too; of any other the C++ name without namespaces.
std::string optimizer_name(const torch::optim::Optimizer& optimizer);

}  // namespace troupe::optim
