// Precompiled for the library and its programs: what nearly all of them include. torch/torch.h is left out on purpose.
// What a header leaves to be instantiated is instantiated anew in each translation unit, precompiled or not, and its
// other half (all layers, the data API, serialization) is needed by few: with it each takes 3 s and 450 MB more.
#pragma once

#include <torch/nn/module.h>
#include <torch/optim/optimizer.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>
