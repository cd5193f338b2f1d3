// The rank that the others wait for is named, and nobody else is.
#include "troupe/runtime/distributed/stragglers.hpp"

#include "troupe/runtime/collectives/memory_world.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr int ranks = 3, steps = 40;

// Works on a core, so that it takes at least so long.
void work(std::chrono::microseconds time) {
  const auto end = Clock::now() + time;
  while (Clock::now() < end) {
  }
}

// What rank zero is told at the comparisons of a run in which rank 1's steps take `slow`, and those of others nothing.
std::vector<std::string> remarks(std::chrono::microseconds slow, double ratio) {
  CollectiveOptions options;
  options.timeout = std::chrono::seconds(60);
  const auto tensors = MemoryWorld::create(ranks, options), control = MemoryWorld::create(ranks, options),
             votes = MemoryWorld::create(ranks, options);
  std::vector<std::string> said;
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      Place place;
      place.global_rank = rank;
      place.world_size = ranks;
      Peers peers(place, c10::DeviceType::CPU, tensors->backend(rank), control->backend(rank), votes->backend(rank));
      const auto pulse = std::make_shared<Pulse>("worker " + std::to_string(rank));
      enter_thread(pulse);
      Stragglers stragglers(peers, *pulse, ratio, std::chrono::milliseconds(20));
      stragglers.resume();
      for (int step = 0; step < steps; ++step) {
        if (rank == 1) work(slow);
        const bool is_due = stragglers.count_step();
        // In training this goes with the vote on the next batch.
        if (peers.from_rank_zero(is_due ? "compare" : "") != "compare") continue;
        if (auto remark = stragglers.compare(); !remark.empty()) said.push_back(remark);
      }
      stragglers.pause();
      peers.wait_for_all();
    });
  }
  threads.clear();
  return said;
}

TEST(Stragglers, TheSlowRankIsNamedOnceAMinute) {
  const auto said = remarks(std::chrono::milliseconds(4), 2);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_THAT(said[0], HasSubstr("rank 1 on "));
  EXPECT_THAT(said[0], HasSubstr("is slow: a step takes it "));
  EXPECT_THAT(said[0], HasSubstr("(trainer.straggler_ratio)"));
}

TEST(Stragglers, NobodyIsNamedWithoutARatio) {
  EXPECT_TRUE(remarks(std::chrono::milliseconds(2), 0).empty());
}

TEST(Stragglers, ALargeRatioIsNotReached) {
  EXPECT_TRUE(remarks(std::chrono::milliseconds(2), 1e6).empty());
}

}  // namespace
}  // namespace troupe
