// A LibTorch module as the kind of module that TorchScript saves.
#pragma once

#include <torch/csrc/jit/api/module.h>
#include <torch/nn/module.h>

#include <string>

namespace troupe {

/// The name with "_" for what no identifier of Python's has.
std::string python_identifier(std::string name);

/// The same tree of modules with the same names, in eval mode and without methods. Parameters and buffers are not
/// copied: those that are one tensor stay one, and so does a module that is reached by several names. Undefined ones
/// are left out.
torch::jit::Module to_script_module(const torch::nn::Module& root);

}  // namespace troupe
