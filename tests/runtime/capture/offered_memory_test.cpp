#include "troupe/runtime/capture/offered_memory.hpp"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <array>

namespace troupe::capture {
namespace {

alignas(64) std::array<float, 16> first_room, second_room;
constexpr std::size_t room_bytes = sizeof first_room;

torch::Tensor of_room_size() {
  return torch::empty({16});
}

TEST(OfferedMemory, GoesToAllocationsOfItsSizeOnceEach) {
  const std::vector<Room> rooms{{first_room.data(), room_bytes}, {second_room.data(), room_bytes}};
  const OfferedMemory offered(rooms);
  const auto larger = torch::empty({17}), one = of_room_size(), two = of_room_size(), three = of_room_size();
  EXPECT_EQ(one.data_ptr(), first_room.data());
  EXPECT_EQ(two.data_ptr(), second_room.data());
  EXPECT_NE(three.data_ptr(), first_room.data());
  EXPECT_NE(larger.data_ptr(), first_room.data());
}

TEST(OfferedMemory, PassesAllocationsThatComeBefore) {
  const std::vector<Room> rooms{{first_room.data(), room_bytes, /*passed=*/2}};
  const OfferedMemory offered(rooms);
  const auto one = of_room_size(), two = of_room_size(), three = of_room_size(), four = of_room_size();
  EXPECT_NE(one.data_ptr(), first_room.data());
  EXPECT_NE(two.data_ptr(), first_room.data());
  EXPECT_EQ(three.data_ptr(), first_room.data());
  EXPECT_NE(four.data_ptr(), first_room.data());
}

TEST(OfferedMemory, IsOfferedNoLongerThanItsGuardLives) {
  const std::vector<Room> rooms{{first_room.data(), room_bytes}};
  { const OfferedMemory offered(rooms); }
  EXPECT_NE(of_room_size().data_ptr(), first_room.data());
}

TEST(OfferedMemory, IsHeldUntilTheLastTensorOfItIsGone) {
  const std::vector<Room> rooms{{first_room.data(), room_bytes}, {second_room.data(), room_bytes}};
  torch::Tensor one;
  {
    const OfferedMemory offered(rooms);
    one = of_room_size();
  }
  auto alias = one.view({4, 4});
  EXPECT_TRUE(is_held(rooms));
  one.reset();
  EXPECT_TRUE(is_held(rooms));
  alias.reset();
  EXPECT_FALSE(is_held(rooms));
}

// As oneDNN takes memory for what it needs in between.
TEST(OfferedMemory, GoesToRawAllocationsAndComesBack) {
  const std::vector<Room> rooms{{first_room.data(), room_bytes}};
  const OfferedMemory offered(rooms);
  auto* allocator = c10::GetCPUAllocator();
  void* room = allocator->raw_allocate(room_bytes);
  void* other = allocator->raw_allocate(room_bytes);
  EXPECT_EQ(room, first_room.data());
  EXPECT_NE(other, first_room.data());
  allocator->raw_deallocate(other);
  EXPECT_TRUE(is_held(rooms));
  allocator->raw_deallocate(room);
  EXPECT_FALSE(is_held(rooms));
}

TEST(OfferedMemory, OutlivesItsTensors) {
  first_room.fill(3);
  {
    const std::vector<Room> rooms{{first_room.data(), room_bytes}};
    const OfferedMemory offered(rooms);
    const auto one = of_room_size();
    EXPECT_EQ(one.sum().item<float>(), 48);
  }
  EXPECT_EQ(first_room[15], 3);
}

}  // namespace
}  // namespace troupe::capture
