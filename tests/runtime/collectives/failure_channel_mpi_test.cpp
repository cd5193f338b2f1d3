#include "troupe/runtime/collectives/failure_channel.hpp"

#include "tests/support/heard.hpp"
#include "tests/support/mpi_main.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace troupe {
namespace {

// By rank.
struct HeardByRank : Heard<std::map<int, std::string>> {
  FailureChannel::Listener listener() {
    return [this](int rank, const std::string& message) { add([&](auto& all) { all[rank] = message; }); };
  }
};

TEST(FailureChannel, TellsRanksThatWaitInsideOfMpi) {
  HeardByRank heard;
  MpiBackend backend(mpi_world()), all(mpi_world());
  FailureChannel channel(mpi_world(), heard.listener(), std::chrono::milliseconds(5));
  const int last = mpi_world().size() - 1;
  const std::string message = "no memory on rank " + std::to_string(last);
  if (mpi_world().rank() == last) {
    EXPECT_TRUE(channel.announce(message));
    all.barrier()->wait();
    backend.barrier()->wait();
  } else {
    const auto waiting = backend.barrier();
    EXPECT_EQ(heard.wait_for(1).at(last), message);
    EXPECT_FALSE(waiting->isCompleted());  // the last rank comes after all have heard
    all.barrier()->wait();
    waiting->wait();
  }
}

TEST(FailureChannel, CarriesMessagesOfAnySizeFromAllRanksAtOnce) {
  HeardByRank heard;
  FailureChannel channel(mpi_world(), heard.listener(), std::chrono::milliseconds(5));
  const auto text_of = [](int rank) { return std::string(100'000, static_cast<char>('a' + rank)); };
  EXPECT_TRUE(channel.announce(text_of(mpi_world().rank()), std::chrono::seconds(60)));
  const auto others = static_cast<std::size_t>(mpi_world().size() - 1);
  for (const auto& [rank, message] : heard.wait_for(others)) EXPECT_EQ(message, text_of(rank));
  MpiBackend(mpi_world()).barrier()->wait();  // the channel stays until all have heard
}

TEST(FailureChannel, GivesUpWhereNobodyListens) {
  MpiBackend backend(mpi_world());
  {
    FailureChannel channel(
        mpi_world(), [](int, const std::string&) {}, std::chrono::hours(1));
    // Too large to be sent before somebody takes it.
    const bool sent = channel.announce(std::string(1'000'000, 'x'), std::chrono::milliseconds(20));
    EXPECT_EQ(sent, mpi_world().size() == 1);
    backend.barrier()->wait();
  }
}

}  // namespace
}  // namespace troupe
