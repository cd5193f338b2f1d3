#include "troupe/runtime/collectives/nccl_backend.hpp"

#include "troupe/base/failure.hpp"

#ifdef TROUPE_HAS_CUDA
#define USE_DISTRIBUTED 1
#define USE_C10D_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <string>

namespace troupe {

#ifdef TROUPE_HAS_CUDA

bool has_nccl() {
  return true;
}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    c10::Device device, std::chrono::milliseconds timeout) {
  if (!device.is_cuda() || !device.has_index()) {
    throw UsageError("NCCL needs a GPU with its index for each rank, as cuda:0, and got '" + device.str() + "'");
  }
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, std::move(options));
  backend->setBoundDeviceId(device);
  return backend;
}

#else

bool has_nccl() {
  return false;
}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>&, int, int, c10::Device,
                                                    std::chrono::milliseconds) {
  throw UsageError("this Troupe was built without CUDA, and so without NCCL: build it where a CUDA toolkit is");
}

#endif

}  // namespace troupe
