#include "troupe/runtime/device/device.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/device/cuda_libraries.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <torch/cuda.h>

#include <algorithm>
#include <string>

namespace troupe {
namespace {

// Workers on the CPU only divide what there is. A few more than processors are good for trying things out, hundreds are
// a mistake that costs gigabytes.
void check_amount_of_workers(int64_t count) {
  constexpr int64_t most_per_processor = 8, most_anywhere = 32;
  const auto processors = static_cast<int64_t>(allowed_cpus().size());
  const int64_t most = std::max(most_anywhere, most_per_processor * processors);
  if (count <= most) return;
  throw UsageError("trainer.devices = " + std::to_string(count) +
                   " is too much for the CPU: each has a copy of the model and threads of its own, and this process may"
                   " use " +
                   std::to_string(processors) + " processor(s); use at most " + std::to_string(most) + ", and " +
                   std::to_string(processors) + " for speed");
}

}  // namespace

torch::Device choose_device(Accelerator accelerator) {
  if (accelerator == Accelerator::cpu) return torch::kCPU;
#ifdef TROUPE_HAS_CUDA
  const bool has_gpu = torch::cuda::is_available();
  const std::string reason = cuda_libraries_problem().empty() ? "no GPU was found" : cuda_libraries_problem();
#else
  const bool has_gpu = false;
  const std::string reason = "this build has no CUDA code (it needs a CUDA toolkit)";
#endif
  if (has_gpu) return torch::Device(torch::kCUDA, 0);
  if (accelerator == Accelerator::cuda) {
    throw UsageError("trainer.accelerator = \"cuda\", but " + reason + "; use \"auto\" or \"cpu\"");
  }
  return torch::kCPU;
}

std::vector<torch::Device> choose_devices(Accelerator accelerator, int64_t count, int64_t local_rank) {
  const torch::Device first = choose_device(accelerator);
  if (first.is_cpu()) {
    check_amount_of_workers(count);
    return std::vector<torch::Device>(static_cast<std::size_t>(count), first);
  }
  const auto there = static_cast<int64_t>(torch::cuda::device_count());
  if (count > there || (local_rank + 1) * count > there) {
    throw UsageError("trainer.devices = " + std::to_string(count) + " for process " + std::to_string(local_rank) +
                     " of this host, which has " + std::to_string(there) + " GPUs; use fewer devices or processes");
  }
  std::vector<torch::Device> devices;
  for (int64_t i = 0; i < count; ++i) {
    devices.emplace_back(torch::kCUDA, static_cast<c10::DeviceIndex>(local_rank * count + i));
  }
  return devices;
}

}  // namespace troupe
