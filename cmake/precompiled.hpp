// Precompiled for the library and its tests: LibTorch's umbrella header costs about 20 s a translation unit without it.
#pragma once

#include <torch/torch.h>

#include <nlohmann/json.hpp>
