#include "troupe/runtime/collectives/nccl_backend.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/device/cuda_libraries.hpp"

#ifdef TROUPE_HAS_CUDA
#define USE_DISTRIBUTED 1
#define USE_C10D_NCCL 1
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <memory>
#include <new>
#include <string>
#include <utility>

namespace troupe {

#ifdef TROUPE_HAS_CUDA

namespace {

using c10d::ProcessGroupNCCL;
using Options = ProcessGroupNCCL::Options;

// Programs are not linked to libtorch_cuda (runtime/device/cuda_libraries.hpp), so the two constructors are called by
// their names, as the Itanium C++ ABI has them (https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling): functions
// whose first argument is the object's memory. Their classes' other functions are virtual.
template <class T, class... Arguments>
c10::intrusive_ptr<T> constructed(const char* name, Arguments... arguments) {
  const auto construct = reinterpret_cast<void (*)(void*, Arguments...)>(cuda_symbol(name));
  auto memory =
      std::unique_ptr<void, void (*)(void*)>(::operator new(sizeof(T)), [](void* at) { ::operator delete(at); });
  construct(memory.get(), std::move(arguments)...);
  return c10::intrusive_ptr<T>::unsafe_steal_from_new(static_cast<T*>(memory.release()));
}

}  // namespace

bool has_nccl() {
  return true;
}

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    c10::Device device, std::chrono::milliseconds timeout) {
  if (!device.is_cuda() || !device.has_index()) {
    throw UsageError("NCCL needs a GPU with its index for each rank, as cuda:0, and got '" + device.str() + "'");
  }
  auto options = constructed<Options>("_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb", /*is_high_priority_stream=*/false);
  options->timeout = timeout;
  auto backend = constructed<ProcessGroupNCCL>(
      "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail"
      "34intrusive_target_default_null_typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE",
      store, rank, size, std::move(options));
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
