// Which device a run uses.
#pragma once

#include <torch/types.h>

#include <string>

namespace troupe {

/// "cpu", "cuda", or "auto": cuda where a GPU works, else the CPU. Throws UsageError for "cuda" where there is none,
/// saying why.
torch::Device choose_device(const std::string& accelerator);

}  // namespace troupe
