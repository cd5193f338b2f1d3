#include "troupe/runtime/data/combined_epoch.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using Opening = CombinedEpoch::Opening;

std::vector<int64_t> batch_numbers(const std::vector<Opening>& openings) {
  std::vector<int64_t> all;
  for (const auto& o : openings) {
    all.insert(all.end(), {static_cast<int64_t>(o.loader), o.epoch, o.position, o.limit});
  }
  return all;
}
using Numbers = std::vector<int64_t>;

TEST(CombinedEpoch, OneLoaderIsItself) {
  for (const auto mode : {CombineMode::max_size_cycle, CombineMode::min_size, CombineMode::sequential}) {
    const CombinedEpoch epoch(mode, {5});
    EXPECT_EQ(epoch.length(), 5);
    EXPECT_FALSE(epoch.has_parts());
    EXPECT_EQ(batch_numbers(epoch.openings_at(3, 2)), (Numbers{0, 3, 2, 5}));
    EXPECT_FALSE(epoch.opening_after(0, 3, 5));
    const CombinedEpoch stream(mode, {std::nullopt});
    EXPECT_FALSE(stream.length());
    EXPECT_EQ(stream.openings_at(3, 2).at(0).position, 2);
    EXPECT_EQ(CombinedEpoch(mode, {std::nullopt}, 4).length(), 4);
  }
}

TEST(CombinedEpoch, MaxSizeCycleBeginsShortLoadersAnew) {
  const CombinedEpoch epoch(CombineMode::max_size_cycle, {7, 3});
  EXPECT_EQ(epoch.length(), 7);
  EXPECT_TRUE(epoch.has_parts());
  // The short one has three epochs in each of the run's: 3 + 3 + 1 batches.
  EXPECT_EQ(batch_numbers(epoch.openings_at(0, 0)), (Numbers{0, 0, 0, 7, 1, 0, 0, 3}));
  EXPECT_EQ(batch_numbers(epoch.openings_at(2, 4)), (Numbers{0, 2, 4, 7, 1, 7, 1, 3}));
  EXPECT_EQ(batch_numbers({*epoch.opening_after(1, 2, 3)}), (Numbers{1, 7, 0, 3}));
  EXPECT_EQ(batch_numbers({*epoch.opening_after(1, 2, 6)}), (Numbers{1, 8, 0, 1}));
  EXPECT_FALSE(epoch.opening_after(0, 2, 7));
  EXPECT_FALSE(epoch.opening_after(1, 2, 7));
}

TEST(CombinedEpoch, MinSizeEndsWithTheShortest) {
  const CombinedEpoch epoch(CombineMode::min_size, {7, 3, std::nullopt}, 2);
  EXPECT_EQ(epoch.length(), 2);
  EXPECT_EQ(CombinedEpoch(CombineMode::min_size, {7, 3}).length(), 3);
  EXPECT_EQ(batch_numbers(epoch.openings_at(1, 1)), (Numbers{0, 1, 1, 2, 1, 1, 1, 2, 2, 1, 1, 2}));
}

TEST(CombinedEpoch, SequentialTakesOneAfterTheOther) {
  const CombinedEpoch epoch(CombineMode::sequential, {2, 3, 4}, 6);
  EXPECT_EQ(epoch.length(), 6);
  EXPECT_FALSE(epoch.has_parts());
  EXPECT_EQ(epoch.openings_at(1, 3).at(0).loader, 1u);
  EXPECT_EQ(epoch.openings_at(1, 3).at(0).position, 1);
  EXPECT_EQ(batch_numbers({*epoch.opening_after(1, 1, 5)}), (Numbers{2, 1, 0, 1}));
  EXPECT_FALSE(epoch.opening_after(2, 1, 6));
}

TEST(CombinedEpoch, AStreamIsRefusedWhereALengthIsNeeded) {
  EXPECT_THAT(refusal([] {
                CombinedEpoch(CombineMode::max_size_cycle, {3, std::nullopt});
              }),
              HasSubstr("train loader 1 is a stream"));
  EXPECT_THAT(refusal([] {
                CombinedEpoch(CombineMode::sequential, {std::nullopt, 3});
              }),
              HasSubstr("train loader 0 is a stream"));
  EXPECT_EQ(refusal([] { CombinedEpoch(CombineMode::sequential, {3, std::nullopt}); }), "accepted");
}

}  // namespace
}  // namespace troupe
