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

namespace troupe {
namespace {

c10::intrusive_ptr<c10d::Backend> one_rank(c10::Device device) {
  return make_nccl_backend(c10::make_intrusive<c10d::HashStore>(), 0, 1, device, std::chrono::seconds(60));
}

TEST(NcclBackend, RefusesTheCpu) {
  const auto error = error_of([] { one_rank(at::kCPU); });
  EXPECT_THAT(error, testing::HasSubstr(has_nccl() ? "got 'cpu'" : "built without CUDA"));
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
