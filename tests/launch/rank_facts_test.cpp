// What ranks compare before a run: one sentence, in which both sides are named.
#include "troupe/launch/rank_facts.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

RankFacts facts() {
  return {"node0",
          "/shared/digits",
          "00000000000000aa",
          "/lib/libtorch_cpu.so, 500 bytes",
          {{"trainer", {{"max_epochs", 3}, {"num_threads", 0}, {"default_root_dir", "runs"}}},
           {"model", {{"lr", 0.1}}},
           {"data", {{"folder", "/data"}, {"batch_size", 8}}}}};
}

// Of three ranks, of which the last is `other`.
std::string said_of(const RankFacts& other) {
  return disagreement({facts(), facts(), other});
}

TEST(RankFacts, EqualRanksTrainTogether) {
  EXPECT_EQ(said_of(facts()), "");
  EXPECT_EQ(disagreement({facts()}), "");
}

TEST(RankFacts, AnotherProgramIsNamedWithBothHashes) {
  auto other = facts();
  other.host = "node7";
  other.program = "/old/digits";
  other.hash = "00000000000000bb";
  EXPECT_THAT(said_of(other),
              AllOf(HasSubstr("rank 2 on node7 runs another program"), HasSubstr("/old/digits (hash 00000000000000bb)"),
                    HasSubstr("rank 0 on node0"), HasSubstr("/shared/digits (hash 00000000000000aa)")));
  other = facts();
  other.program = "/elsewhere/digits";
  EXPECT_EQ(said_of(other), "") << "the same file at another path";
}

TEST(RankFacts, AnotherLibTorchIsNamed) {
  auto other = facts();
  other.libtorch = "/old/libtorch_cpu.so, 400 bytes";
  EXPECT_THAT(said_of(other),
              AllOf(HasSubstr("rank 2 on node0 has another LibTorch"), HasSubstr("/old/libtorch_cpu.so, 400 bytes"),
                    HasSubstr("/lib/libtorch_cpu.so, 500 bytes")));
  other.libtorch = "/elsewhere/libtorch_cpu.so, 500 bytes";
  EXPECT_EQ(said_of(other), "");
}

TEST(RankFacts, OtherOptionsAreNamedWithBothValues) {
  auto other = facts();
  other.options["trainer"]["max_epochs"] = 5;
  EXPECT_THAT(said_of(other),
              HasSubstr("rank 2 on node0 has other options than rank 0 on node0: trainer.max_epochs = 5 and not 3;"));
  other = facts();
  other.options["model"].erase("lr");
  EXPECT_THAT(said_of(other), HasSubstr("model.lr = no such option and not 0.1"));
  other = facts();
  other.options["data"]["batch_size"] = 4;
  EXPECT_THAT(said_of(other), HasSubstr("data.batch_size = 4 and not 8"));
  other = facts();
  for (const char* name : {"a", "b", "c", "d", "e"}) other.options["model"][name] = 1;
  EXPECT_THAT(said_of(other), AllOf(HasSubstr("model.c = 1"), HasSubstr("and 2 more"), Not(HasSubstr("model.d"))));
}

TEST(RankFacts, OptionsThatARankMayHaveForItselfDoNotCount) {
  auto other = facts();
  other.options["trainer"]["num_threads"] = 7;
  other.options["trainer"]["default_root_dir"] = "/elsewhere";
  other.options["data"]["folder"] = "/local/data";
  EXPECT_EQ(said_of(other), "");
}

TEST(RankFacts, AClockThatIsAnHourOffIsNamed) {
  const int64_t now = 1'700'000'000'000, hour = 3'600'000;
  const std::vector<std::string> hosts = {"node0", "node0", "node7"};
  EXPECT_EQ(clock_difference({now, now + 5'000, now - 59'000}, hosts), "");
  EXPECT_THAT(clock_difference({now, now, now + hour}, hosts),
              HasSubstr("the clock of rank 2 on node7 is 3600 s ahead of that of rank 0 on node0"));
  EXPECT_THAT(clock_difference({now, now, now - hour}, hosts), HasSubstr("is 3600 s behind that of"));
}

TEST(RankFacts, OfThisProcessAreItsFileAndOptions) {
  TrainerOptions options{.max_epochs = 4};
  const auto groups = trainer_groups(options);
  const auto own = facts_of_process("here", groups);
  EXPECT_EQ(own.hash.size(), 16u);
  EXPECT_TRUE(own.program.starts_with('/')) << own.program;
  EXPECT_THAT(own.libtorch, HasSubstr("libtorch_cpu.so"));
  EXPECT_EQ(own.options["trainer"]["max_epochs"], 4);
}

}  // namespace
}  // namespace troupe
