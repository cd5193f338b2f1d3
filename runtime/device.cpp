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

std::vector<torch::Device> choose_devices(const std::string& accelerator, int64_t count, int64_t local_rank) {
  const torch::Device first = choose_device(accelerator);
  std::vector<torch::Device> devices(static_cast<std::size_t>(count), first);
  if (first.is_cpu()) return devices;
  const auto there = static_cast<int64_t>(torch::cuda::device_count());
  const int64_t begin = local_rank * count;
  if (begin + count > there) {
    throw UsageError("trainer.devices = " + std::to_string(count) + " for process " + std::to_string(local_rank) +
                     " of this host, which has " + std::to_string(there) + " GPUs; use fewer devices or processes");
  }
  for (int64_t i = 0; i < count; ++i) {
    devices[static_cast<std::size_t>(i)] = torch::Device(torch::kCUDA, static_cast<c10::DeviceIndex>(begin + i));
  }
  return devices;
}

}  // namespace troupe
