// Where planned memory lies: what plan_memory() promises, for random lifetimes and for a few that are plain to see.
#include "troupe/runtime/capture/memory_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace troupe::capture {
namespace {

std::size_t in_lines(std::size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// Of a few or of many buffers, most of them small and short-lived, some without bytes.
std::vector<Lifetime> random_lifetimes(uint32_t seed) {
  std::mt19937 engine(seed);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(engine()) % limit; };
  const std::size_t steps = 1 + below(60);
  std::vector<Lifetime> buffers(below(50));
  for (auto& each : buffers) {
    each.bytes = below(8) == 0 ? below(100'000) : below(2'000);
    each.first = below(steps);
    each.last = below(5) == 0 ? steps : std::min(steps, each.first + below(4));
  }
  return buffers;
}

std::size_t most_at_one_time(const std::vector<Lifetime>& buffers) {
  std::size_t most = 0;
  for (const auto& start : buffers) {  // the sum grows only where a buffer begins
    std::size_t sum = 0;
    for (const auto& each : buffers) {
      if (each.first <= start.first && start.first <= each.last) sum += in_lines(each.bytes);
    }
    most = std::max(most, sum);
  }
  return most;
}

TEST(MemoryPlan, BuffersOfOneTimeLieApart) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const auto buffers = random_lifetimes(seed);
    const auto plan = plan_memory(buffers);
    ASSERT_EQ(plan.offsets.size(), buffers.size()) << "seed " << seed;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (buffers[i].last < buffers[j].first || buffers[j].last < buffers[i].first) continue;
        const bool lie_apart = plan.offsets[i] + buffers[i].bytes <= plan.offsets[j] ||
                               plan.offsets[j] + buffers[j].bytes <= plan.offsets[i];
        ASSERT_TRUE(lie_apart) << "seed " << seed << ": " << buffers[i].bytes << " bytes at " << plan.offsets[i]
                               << " and " << buffers[j].bytes << " at " << plan.offsets[j];
      }
    }
  }
}

TEST(MemoryPlan, ItTakesWhatIsNeededAndNoMoreThanAllTogether) {
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto buffers = random_lifetimes(seed);
    const auto plan = plan_memory(buffers);
    std::size_t all = 0, end = 0;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      ASSERT_EQ(plan.offsets[i] % 64, 0u);
      all += in_lines(buffers[i].bytes);
      end = std::max(end, plan.offsets[i] + in_lines(buffers[i].bytes));
    }
    ASSERT_EQ(plan.bytes, end);
    ASSERT_GE(plan.bytes, most_at_one_time(buffers));
    ASSERT_LE(plan.bytes, all);
  }
}

TEST(MemoryPlan, AChainNeedsTheMemoryOfTwo) {
  std::vector<Lifetime> chain;
  for (std::size_t i = 0; i < 100; ++i) chain.push_back({1000, i, i + 1});
  EXPECT_EQ(plan_memory(chain).bytes, 2u * 1024);
}

TEST(MemoryPlan, BuffersOfDifferentTimesShareMemory) {
  const auto plan = plan_memory({{100, 0, 1}, {1000, 2, 3}, {10, 4, 4}});
  EXPECT_EQ(plan.offsets, std::vector<std::size_t>(3, 0));
  EXPECT_EQ(plan.bytes, 1024u);
}

TEST(MemoryPlan, BothEndsOfALifetimeAreIncluded) {
  EXPECT_EQ(plan_memory({{64, 0, 1}, {64, 1, 2}}).bytes, 128u);
  EXPECT_EQ(plan_memory({{64, 0, 1}, {64, 2, 2}}).bytes, 64u);
}

// A small one lies below one that is in use longer, where a large one was before.
TEST(MemoryPlan, HolesAreFilled) {
  const std::vector<Lifetime> buffers = {{1024, 0, 1}, {512, 1, 4}, {256, 3, 3}};
  const auto plan = plan_memory(buffers);
  EXPECT_EQ(plan.offsets, (std::vector<std::size_t>{0, 1024, 0}));
  EXPECT_EQ(plan.bytes, 1024u + 512u);
}

// Nothing reaches over the end of what is lent, or is there at another time; the others lie as ever.
TEST(MemoryPlan, LentMemoryIsUsedWithinItsTimeAndSize) {
  std::size_t borrowed = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto buffers = random_lifetimes(seed);
    const std::vector<Lifetime> lent = {{10'000, 5, 30}, {1'000, 20, 25}, {60, 0, 60}};
    const auto plan = plan_memory(buffers, lent);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (!plan.lender[i]) continue;
      ++borrowed;
      const Lifetime& from = lent.at(*plan.lender[i]);
      ASSERT_EQ(plan.offsets[i] % 64, 0u);
      ASSERT_LE(plan.offsets[i] + buffers[i].bytes, from.bytes);
      ASSERT_GE(buffers[i].first, from.first);
      ASSERT_LE(buffers[i].last, from.last);
    }
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (plan.lender[i] != plan.lender[j]) continue;
        if (buffers[i].last < buffers[j].first || buffers[j].last < buffers[i].first) continue;
        ASSERT_TRUE(plan.offsets[i] + buffers[i].bytes <= plan.offsets[j] ||
                    plan.offsets[j] + buffers[j].bytes <= plan.offsets[i]);
      }
    }
  }
  EXPECT_GT(borrowed, 400u);
}

TEST(MemoryPlan, LentMemoryIsNotCounted) {
  const auto plan = plan_memory({{1'000, 0, 2}, {500, 2, 3}, {500, 4, 5}}, {{500, 2, 4}});
  EXPECT_EQ(plan.lender, (std::vector<std::optional<std::size_t>>{std::nullopt, 0, std::nullopt}));
  EXPECT_EQ(plan.bytes, 1024u);
}

TEST(MemoryPlan, NothingTakesNothing) {
  EXPECT_TRUE(plan_memory({}).offsets.empty());
  EXPECT_EQ(plan_memory({}).bytes, 0u);
  EXPECT_EQ(plan_memory({{0, 0, 3}, {0, 1, 2}}).bytes, 0u);
}

}  // namespace
}  // namespace troupe::capture
