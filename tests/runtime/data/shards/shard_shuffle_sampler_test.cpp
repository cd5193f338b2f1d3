#include "troupe/runtime/data/shards/shard_shuffle_sampler.hpp"

#include "troupe/runtime/data/shards/shard_paths.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<int64_t> kShardSizes = {30, 0, 50, 20, 100};

/// The number of a sample's shard.
std::size_t shard_of_sample(int64_t sample) {
  std::size_t shard = 0;
  for (; sample >= kShardSizes[shard]; ++shard) sample -= kShardSizes[shard];
  return shard;
}

TEST(ShardShuffleSampler, GivesEachSampleOnceAndAnotherOrderInEachEpoch) {
  const ShardShuffleSampler sampler(kShardSizes, 16);
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 20; ++epoch) {
    const auto order = sampler.indices(200, 1, epoch);
    EXPECT_EQ(order, sampler.indices(200, 1, epoch));
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 200u);
    EXPECT_EQ(order.size(), 200u);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 20u);
  EXPECT_NE(sampler.indices(200, 1, 0), sampler.indices(200, 2, 0));
  EXPECT_EQ(sampler.count(200), 200);
}

TEST(ShardShuffleSampler, MovesASampleByLessThanItsBuffer) {
  // Windows of one sample leave the sequence of shards as it is; it does not depend on the buffer.
  const auto sequence = ShardShuffleSampler(kShardSizes, 1).indices(200, 3, 5);
  for (std::size_t i = 1; i < sequence.size(); ++i) {
    const bool is_new_shard = shard_of_sample(sequence[i]) != shard_of_sample(sequence[i - 1]);
    EXPECT_TRUE(is_new_shard || sequence[i] == sequence[i - 1] + 1) << i;
  }
  for (const int64_t buffer : {2, 16, 70, 1000}) {
    const auto order = ShardShuffleSampler(kShardSizes, buffer).indices(200, 3, 5);
    int64_t farthest = 0;
    bool spans_shards = false;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const auto from = std::ranges::find(sequence, order[i]) - sequence.begin();
      farthest = std::max<int64_t>(farthest, std::abs(from - static_cast<int64_t>(i)));
      spans_shards = spans_shards || shard_of_sample(order[i]) != shard_of_sample(sequence[i]);
    }
    EXPECT_LT(farthest, buffer);
    EXPECT_GE(farthest, std::min<int64_t>(buffer, 200) / 3);
    EXPECT_TRUE(spans_shards || buffer == 2) << buffer;
  }
}

TEST(ShardShuffleSampler, RefusesWhatCannotBe) {
  EXPECT_THAT(refusal([] { ShardShuffleSampler({1, 2}, 0); }), HasSubstr("buffer = 0 must be at least 1"));
  EXPECT_THAT(refusal([] { ShardShuffleSampler({1, -2}); }), HasSubstr("a shard has -2 samples"));
  EXPECT_THAT(refusal([] {
                ShardShuffleSampler({1, 2}).indices(4, 0, 0);
              }),
              HasSubstr("3 samples in all for a dataset of 4"));
  EXPECT_EQ(ShardShuffleSampler({3}, std::numeric_limits<int64_t>::max()).indices(3, 0, 0).size(), 3u);
}

TEST(ExpandBraces, GivesTheTextsInOrder) {
  EXPECT_THAT(expand_braces("a-{08..11}.tar"), ElementsAre("a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"));
  EXPECT_THAT(expand_braces("{2..0}"), ElementsAre("2", "1", "0"));
  EXPECT_THAT(expand_braces("{a,b{1..2},}x"), ElementsAre("ax", "b1x", "b2x", "x"));
  EXPECT_THAT(expand_braces("{0..1}{a,b}"), ElementsAre("0a", "0b", "1a", "1b"));
  EXPECT_THAT(expand_braces("plain{}{x}"), ElementsAre("plain{}{x}"));
  EXPECT_THAT(refusal([] { expand_braces("a{0..3"); }),
              HasSubstr("the pattern 'a{0..3' has a brace that is not closed"));
  EXPECT_THAT(refusal([] { expand_braces("{0..999999999}"); }), HasSubstr("more than a million"));
  EXPECT_THAT(refusal([] { expand_braces("{0..9999}{0..9999}"); }), HasSubstr("more than a million"));
  EXPECT_THAT(refusal([] { expand_braces(std::string(100, '{') + std::string(100, '}')); }), HasSubstr("more than 16"));
}

TEST(FindShards, TakesPatternsFoldersAndFiles) {
  const TempDir dir;
  for (const auto* name : {"b-0.tar", "b-1.tar", "a.tar.gz", "c.tgz", "x.index", ".d.tar", "odd{1.tar"})
    put(dir / name, "");
  const auto names = [&](const std::vector<std::string>& paths) {
    std::vector<std::string> out;
    for (const auto& path : find_shards(paths)) out.push_back(path.filename());
    return out;
  };
  const auto in = [&](const std::string& name) { return (dir / name).string(); };
  EXPECT_THAT(names({dir.path()}), ElementsAre("a.tar.gz", "b-0.tar", "b-1.tar", "c.tgz", "odd{1.tar"));
  EXPECT_THAT(names({in("b-{0..1}.tar"), in("a.tar.gz")}), ElementsAre("b-0.tar", "b-1.tar", "a.tar.gz"));
  EXPECT_THAT(names({in("odd{1.tar")}), ElementsAre("odd{1.tar"));
  EXPECT_THAT(refusal([&] { names({in("b-{0..2}.tar")}); }),
              HasSubstr("there is no shard " + in("b-2.tar") + ", which the pattern"));
  EXPECT_THAT(refusal([&] { names({in("b-0.tar"), dir.path()}); }), HasSubstr("b-0.tar is listed twice"));
  std::filesystem::create_directory(dir / "empty");
  EXPECT_THAT(refusal([&] { names({in("empty")}); }), HasSubstr("has no .tar, .tar.gz or .tgz file"));
  EXPECT_THAT(refusal([&] { names({}); }), HasSubstr("no shards are given"));
}

}  // namespace
}  // namespace troupe
