// NCCL with one rank on one GPU. Without a GPU the cases that need one are skipped, and CTest says so.
#include "troupe/runtime/collectives/nccl_backend.hpp"

#include "tests/runtime/collectives/ranks.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/gather.hpp"
#include "troupe/runtime/collectives/process_group.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <dlfcn.h>

namespace troupe {
namespace {

c10::intrusive_ptr<c10d::Backend> one_rank(c10::Device device) {
  return make_nccl_backend(c10::make_intrusive<c10d::HashStore>(), 0, 1, device, std::chrono::seconds(60));
}

bool is_loaded(const char* library) {
  void* const handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  if (handle) dlclose(handle);
  return handle != nullptr;
}

// The first case: a later one loads them.
TEST(CudaLibraries, AreLoadedIfThereIsADriver) {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY);
  EXPECT_TRUE(is_loaded("libtorch_cpu.so"));
  EXPECT_EQ(is_loaded("libtorch_cuda.so"), has_nccl() && driver != nullptr);
}

TEST(NcclBackend, RefusesTheCpu) {
  const auto error = error_of([] { one_rank(at::kCPU); });
  EXPECT_THAT(error, testing::HasSubstr(has_nccl() ? "got 'cpu'" : "built without CUDA"));
}

// Programs are not linked to the CUDA libraries: what is called in them is found by name, on any machine.
TEST(NcclBackend, CallsLibTorchsNcclWithoutAGpuToo) {
  if (!has_nccl()) GTEST_SKIP() << "built without CUDA";
  if (torch::cuda::is_available()) GTEST_SKIP() << "there is a GPU";
  EXPECT_THAT(error_of([] { one_rank(c10::Device(at::kCUDA, 0)); }), testing::HasSubstr("no GPUs found"));
}

TEST(NcclBackend, ReducesAndGathersOnOneGpu) {
  if (!has_nccl() || !torch::cuda::is_available()) GTEST_SKIP() << "no GPU here";
  const c10::Device device(at::kCUDA, 0);
  const auto backend = one_rank(device);
  std::vector<at::Tensor> tensors = {at::arange(1000, at::TensorOptions().device(device).dtype(at::kFloat))};
  const auto plain = tensors[0].clone();
  backend->allreduce(tensors)->wait();
  EXPECT_TRUE(tensors[0].equal(plain));
  EXPECT_TRUE(all_gather_uneven(*backend, plain).at(0).equal(plain));
  as_process_group(backend, at::kCUDA)->broadcast(tensors)->wait();
  EXPECT_TRUE(tensors[0].equal(plain));
  backend->shutdown();
}

}  // namespace
}  // namespace troupe
