#include "troupe/runtime/collectives/roll_call.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace troupe {
namespace {

using ::testing::ElementsAre;

// Three processes; messages arrive at once, except at those that do not listen.
class CalledProcesses : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int64_t rank = 0; rank < 3; ++rank) {
      calls_.push_back(std::make_unique<RollCall>(rank, 3, [this, rank](const std::string& message) {
        for (int64_t other = 0; other < 3; ++other) {
          if (other == rank || other == deaf_) continue;
          EXPECT_TRUE(calls_[static_cast<std::size_t>(other)]->hear(message));
        }
      }));
    }
    calls_[1]->set_presence([] { return "in training_step"; });
    calls_[2]->set_presence([] { return "in backward"; });
  }

  std::vector<std::unique_ptr<RollCall>> calls_;
  int64_t deaf_ = -1;
};

TEST_F(CalledProcesses, SayWhatTheyDo) {
  EXPECT_THAT(calls_[0]->ask(), ElementsAre("", "in training_step", "in backward"));
  EXPECT_THAT(calls_[2]->ask(), ElementsAre("", "in training_step", "in backward"));
}

TEST_F(CalledProcesses, ThatDoNotAnswerAreLeftOut) {
  deaf_ = 1;
  EXPECT_THAT(calls_[0]->ask(std::chrono::milliseconds(20)), ElementsAre("", std::nullopt, "in backward"));
}

TEST_F(CalledProcesses, WithoutARunSayNothing) {
  calls_[1]->set_presence(nullptr);
  EXPECT_THAT(calls_[0]->ask(), ElementsAre("", "", "in backward"));
}

TEST_F(CalledProcesses, LeaveOtherMessagesAlone) {
  for (const char* message : {"", "not JSON", "[]", "{}", R"({"rank": 1, "message": "out of luck"})"}) {
    EXPECT_FALSE(calls_[0]->hear(message)) << message;
  }
}

}  // namespace
}  // namespace troupe
