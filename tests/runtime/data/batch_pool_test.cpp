#include "troupe/runtime/data/batch_pool.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <thread>

namespace troupe {
namespace {

TEST(BatchPool, GivesMemoryAgainOnceNobodyHoldsIt) {
  BatchPool pool;
  auto first = pool.take({4, 3, 2}, torch::kFloat);
  EXPECT_EQ(first.sizes(), (std::vector<int64_t>{4, 3, 2}));
  EXPECT_TRUE(first.is_contiguous());
  const void* const memory = first.data_ptr();
  auto view = first[1];
  first.reset();
  auto second = pool.take({4, 3, 2}, torch::kFloat);
  EXPECT_NE(second.data_ptr(), memory);
  std::thread([&view] { view.reset(); }).join();
  EXPECT_EQ(pool.take({4, 3, 2}, torch::kFloat).data_ptr(), memory);
}

TEST(BatchPool, UsesMemoryOfAWholeBatchForTheLastOne) {
  BatchPool pool;
  const void* const memory = pool.take({8}, torch::kLong).data_ptr();
  EXPECT_EQ(pool.take({3}, torch::kByte).data_ptr(), memory);
  EXPECT_EQ(pool.take({8}, torch::kLong).data_ptr(), memory);
  auto larger = pool.take({9}, torch::kLong);
  larger.fill_(1);
  EXPECT_EQ(larger.sum().item<int64_t>(), 9);
}

TEST(BatchPool, MayEndBeforeItsTensors) {
  torch::Tensor tensor;
  {
    BatchPool pool;
    tensor = BatchPool(pool).take({2}, torch::kFloat);
  }
  tensor.fill_(3);
  EXPECT_EQ(tensor.sum().item<float>(), 6);
  EXPECT_EQ(BatchPool().take({0}, torch::kFloat).numel(), 0);
}

}  // namespace
}  // namespace troupe
