#include "troupe/runtime/device.hpp"

#include "troupe/modules/failure.hpp"

#include <torch/cuda.h>

namespace troupe {

torch::Device choose_device(const std::string& accelerator) {
  if (accelerator == "cpu") return torch::kCPU;
#ifdef TROUPE_HAS_CUDA
  const bool has_gpu = torch::cuda::is_available();
  const char* reason = "no GPU was found";
#else
  const bool has_gpu = false;
  const char* reason = "this build has no CUDA code (it needs a CUDA toolkit)";
#endif
  if (has_gpu) return torch::Device(torch::kCUDA, 0);
  if (accelerator == "cuda") {
    throw UsageError(std::string("trainer.accelerator = \"cuda\", but ") + reason + "; use \"auto\" or \"cpu\"");
  }
  return torch::kCPU;
}

}  // namespace troupe
