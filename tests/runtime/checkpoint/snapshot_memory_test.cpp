#include "troupe/runtime/checkpoint/snapshot_memory.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>

namespace troupe {
namespace {

// Large ones are copied past the caches, a line at a time.
TEST(SnapshotMemory, CopiesEverySizeAndPlace) {
  constexpr int64_t least = int64_t{1} << 20;
  const auto bytes = torch::randint(256, {2 * least + 200}, torch::kUInt8);
  SnapshotMemory memory;
  for (const int64_t size :
       {int64_t{0}, int64_t{1}, least - 1, least, least + 1, least + 63, least + 64, 2 * least + 65}) {
    for (const int64_t first : {0, 1, 63, 64}) {
      const auto part = bytes.slice(0, first, first + size);
      memory.begin();
      EXPECT_TRUE(torch::equal(memory.copy("part", part), part)) << size << " bytes from " << first;
    }
  }
}

TEST(SnapshotMemory, CopiesWhatHasGapsOrIsLazy) {
  SnapshotMemory memory;
  const auto matrix = torch::randn({1024, 1024});
  EXPECT_TRUE(torch::equal(memory.copy("transposed", matrix.t()), matrix.t()));
  EXPECT_TRUE(torch::equal(memory.copy("negative", matrix._neg_view()), -matrix));
  const auto numbers = torch::randn({512, 1024}, torch::kComplexFloat);
  EXPECT_TRUE(torch::equal(memory.copy("conjugate", numbers.conj()), numbers.conj()));
}

TEST(SnapshotMemory, UsesMemoryAgainOnceNobodyHoldsIt) {
  SnapshotMemory memory;
  const auto weight = torch::ones({1024, 1024});
  const auto first = memory.copy("weight", weight);
  memory.begin();
  weight.fill_(2);
  auto held = memory.copy("weight", weight);
  EXPECT_NE(held.data_ptr(), first.data_ptr());
  EXPECT_TRUE(torch::equal(first, torch::ones_like(weight)));
  const auto* const place = held.data_ptr();
  held.reset();
  memory.begin();
  EXPECT_EQ(memory.copy("weight", weight).data_ptr(), place);
}

}  // namespace
}  // namespace troupe
