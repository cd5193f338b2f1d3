#include "troupe/runtime/collectives/mpi_store.hpp"

#include "tests/support/mpi_main.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/mpi_backend.hpp"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <gtest/gtest.h>

namespace troupe {
namespace {

class MpiStoreTest : public testing::Test {
 protected:
  const int rank_ = mpi_world().rank();
  const int size_ = mpi_world().size();
  MpiBackend all_{mpi_world()};
  c10::intrusive_ptr<MpiStore> store_ = c10::make_intrusive<MpiStore>(mpi_world());

  void TearDown() override { all_.barrier()->wait(); }  // rank 0 answers until all have ended
};

TEST_F(MpiStoreTest, GivesEveryRankWhatTheLastOneSets) {
  const std::string id("an\0id", 5);
  if (rank_ == size_ - 1) store_->set("id", id);
  EXPECT_EQ(store_->get_to_str("id"), id);
}

TEST_F(MpiStoreTest, CountsEveryRank) {
  store_->add("count", rank_ + 1);
  all_.barrier()->wait();
  EXPECT_EQ(store_->add("count", 0), size_ * (size_ + 1) / 2);
  EXPECT_EQ(store_->getNumKeys(), 1);
}

TEST_F(MpiStoreTest, LetsOneRankWin) {
  const auto won = store_->compareSet("winner", "", std::to_string(rank_));
  const auto all = store_->get_to_str("winner");
  EXPECT_EQ(won, all);
}

TEST_F(MpiStoreTest, ChecksAndDeletes) {
  const auto mine = std::to_string(rank_);
  EXPECT_FALSE(store_->check({mine}));
  EXPECT_FALSE(store_->deleteKey(mine));
  store_->set(mine, "");
  EXPECT_TRUE(store_->check({mine}));
  EXPECT_EQ(store_->get_to_str(mine), "");
  EXPECT_TRUE(store_->deleteKey(mine));
  EXPECT_FALSE(store_->check({mine}));
}

TEST_F(MpiStoreTest, EndsAWaitThatIsInVain) {
  EXPECT_THROW(store_->wait({"never"}, std::chrono::milliseconds(20)), CollectiveTimeout);
}

TEST_F(MpiStoreTest, WorksBehindPrefixesAndAsAClone) {
  const auto clone = store_->clone();
  c10d::PrefixStore prefixed("nccl", clone);
  if (rank_ == 0) prefixed.set("key", std::string(100'000, 'v'));
  EXPECT_EQ(prefixed.get_to_str("key").size(), 100'000);
}

}  // namespace
}  // namespace troupe
