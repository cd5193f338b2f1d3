#include "troupe/runtime/collectives/memory_world.hpp"

#include "tests/runtime/collectives/operations.hpp"
#include "tests/runtime/collectives/ranks.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"

#include <gmock/gmock.h>

#include <latch>

namespace troupe {
namespace {

using namespace testing_collectives;
using std::chrono::milliseconds;
using testing::HasSubstr;

c10::intrusive_ptr<c10d::Work> start_all_reduce(c10d::Backend& backend, at::Tensor tensor) {
  std::vector<at::Tensor> tensors = {std::move(tensor)};
  return backend.allreduce(tensors);
}

class MemoryWorldOf : public testing::TestWithParam<int> {};

TEST_P(MemoryWorldOf, AgreesWithAPlainSum) {
  on_every_rank(MemoryWorld::create(GetParam()), [](CollectiveBackend& backend) { check_operations(backend); });
}

TEST_P(MemoryWorldOf, SharesLargeTensorsInPieces) {
  on_every_rank(MemoryWorld::create(GetParam()), [](CollectiveBackend& backend) { check_large(backend); });
}

TEST_P(MemoryWorldOf, GathersWhatDiffersInSize) {
  on_every_rank(MemoryWorld::create(GetParam()), [](CollectiveBackend& backend) { check_uneven(backend); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, MemoryWorldOf, testing::Values(1, 2, 3, 4));

// "Processes" that are groups of threads, joined by another world in place of MPI.
class WorldsOverAWorld : public testing::TestWithParam<std::pair<int, int>> {};

TEST_P(WorldsOverAWorld, AgreeWithAPlainSum) {
  const auto [processes, threads] = GetParam();
  on_every_rank(MemoryWorld::create(processes), [threads = threads](CollectiveBackend& between) {
    const auto world = MemoryWorld::create_over(c10::intrusive_ptr<CollectiveBackend>::reclaim_copy(&between), threads);
    EXPECT_EQ(world->size(), between.getSize() * threads);
    on_every_rank(world, [](CollectiveBackend& backend) {
      check_operations(backend);
      check_large(backend);
      check_uneven(backend);
    });
  });
}

INSTANTIATE_TEST_SUITE_P(ProcessesAndThreads, WorldsOverAWorld,
                         testing::Values(std::pair(2, 2), std::pair(1, 2), std::pair(3, 1), std::pair(2, 3)));

TEST(MemoryWorld, ReducesInTheOrderOfRanks) {
  // Which rank comes last differs from run to run; the sum of these depends on the order of its terms.
  for (int round = 0; round < 50; ++round) {
    on_every_rank(MemoryWorld::create(3), [](CollectiveBackend& backend) {
      const float values[] = {1e8F, 1.0F, -1e8F};
      auto tensor = at::full({10}, values[backend.getRank()]);
      all_reduce(backend, tensor);
      EXPECT_TRUE(tensor.eq((1e8F + 1.0F) + -1e8F).all().item<bool>());
    });
  }
}

TEST(MemoryWorld, DoesNotHoldTheThreadThatCalls) {
  const auto world = MemoryWorld::create(2);
  const auto first = world->backend(0);
  const auto second = world->backend(1);
  std::vector<at::Tensor> ours, theirs;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (int i = 0; i < 20; ++i) {
    ours.push_back(at::full({1 << (i / 2 + 8)}, i));
    works.push_back(start_all_reduce(*first, ours.back()));
    EXPECT_FALSE(works.back()->isCompleted());
  }
  for (int i = 0; i < 20; ++i) {
    theirs.push_back(at::full({1 << (i / 2 + 8)}, 1));
    works.push_back(start_all_reduce(*second, theirs.back()));
  }
  for (const auto& work : works) EXPECT_TRUE(work->wait());
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(ours[static_cast<std::size_t>(i)].eq(i + 1).all().item<bool>());
    EXPECT_TRUE(theirs[static_cast<std::size_t>(i)].eq(i + 1).all().item<bool>());
  }
}

TEST(MemoryWorld, GivesWorksWithFuturesAndResults) {
  on_every_rank(MemoryWorld::create(2), [](CollectiveBackend& backend) {
    const auto tensor = at::ones({3});
    const auto work = start_all_reduce(backend, tensor);
    const auto future = work->getFuture();
    future->wait();
    ASSERT_FALSE(future->hasError());
    EXPECT_TRUE(future->value().toTensorVector().at(0).is_same(tensor));
    EXPECT_TRUE(work->getFuture()->completed());
    EXPECT_TRUE(work->isCompleted() && work->isSuccess());
    EXPECT_TRUE(work->result().at(0).is_same(tensor));
    EXPECT_EQ(work->getSequencenumber(), 1);
    EXPECT_TRUE(tensor.eq(2).all().item<bool>());
  });
}

TEST(MemoryWorld, NamesBothCallsThatDoNotFit) {
  std::vector<std::string> errors(2);
  on_every_rank(MemoryWorld::create(2), [&](CollectiveBackend& backend) {
    errors[static_cast<std::size_t>(backend.getRank())] = error_of([&] {
      const auto tensor = backend.getRank() == 0 ? at::ones({3}) : at::ones({4}, at::kDouble);
      start_all_reduce(backend, tensor)->wait();
    });
  });
  for (const auto& error : errors) {
    EXPECT_THAT(error, HasSubstr("rank 0 calls all-reduce (sum) of Float [3]"));
    EXPECT_THAT(error, HasSubstr("rank 1 calls all-reduce (sum) of Double [4]"));
  }
}

TEST(MemoryWorld, NamesTheRanksThatDidNotCome) {
  const auto world = MemoryWorld::create(3, {.timeout = milliseconds(20)});
  const auto backend = world->backend(1);
  const auto work = start_all_reduce(*backend, at::ones({4}));
  const auto future = work->getFuture();
  future->wait();  // which has no timeout of its own
  EXPECT_TRUE(future->hasError());
  const auto error = error_of([&] { work->wait(); });
  EXPECT_THAT(error, HasSubstr("all-reduce number 1 of rank 1 of 3 (16 bytes) was not finished within 0.02 s"));
  EXPECT_THAT(error, HasSubstr("these ranks did not call it: 0 2"));
  EXPECT_THROW(work->wait(), CollectiveTimeout);
  EXPECT_THROW(world->backend(0)->barrier(), CollectiveTimeout);  // the order of the ranks is lost
}

TEST(MemoryWorld, WaitsNoLongerThanAskedFor) {
  const auto world = MemoryWorld::create(2);
  const auto first = world->backend(0);
  const auto work = first->barrier();
  EXPECT_THROW(work->wait(milliseconds(1)), CollectiveTimeout);
  world->backend(1)->barrier()->wait();  // nothing is lost by that
  EXPECT_TRUE(work->wait());
}

TEST(MemoryWorld, WakesThoseWhoWaitWhenItIsAborted) {
  const auto world = MemoryWorld::create(2);
  std::latch called(1);
  std::string error;
  std::jthread waits([&] {
    const auto work = world->backend(0)->barrier();
    called.count_down();
    error = error_of([&] { work->wait(); });
  });
  called.wait();
  world->backend(1)->abort("rank 1 has failed: no memory");
  waits.join();
  EXPECT_EQ(error, "rank 1 has failed: no memory");
  world->abort("another reason");
  EXPECT_EQ(error_of([&] { world->backend(1)->barrier(); }), "rank 1 has failed: no memory");
}

TEST(MemoryWorld, EndsWithWorksThatNobodyFinished) {
  c10::intrusive_ptr<c10d::Work> work;
  {
    const auto world = MemoryWorld::create(2);
    work = start_all_reduce(*world->backend(0), at::ones({4}));
  }
  EXPECT_THAT(error_of([&] { work->wait(); }), HasSubstr("has ended"));
}

TEST(MemoryWorld, RefusesWhatItCannotDo) {
  const auto backend = MemoryWorld::create(1)->backend(0);
  EXPECT_THAT(error_of([&] { start_all_reduce(*backend, at::empty({2}, at::kMeta)); }),
              HasSubstr("takes dense tensors on the CPU, and got one of [2] on meta"));
  EXPECT_THAT(error_of([&] { all_reduce(*backend, at::ones({2}, at::kInt), ReduceOp::AVG); }), HasSubstr("AVG of Int"));
  EXPECT_THAT(error_of([&] { all_reduce(*backend, at::ones({2}), ReduceOp::BXOR); }), HasSubstr("known are SUM"));
  EXPECT_THAT(error_of([&] { all_reduce(*backend, at::ones({2}, at::kComplexFloat)); }), HasSubstr("ComplexFloat"));
  EXPECT_THAT(error_of([&] {
                std::vector<at::Tensor> tensors = {at::ones({1})};
                backend->broadcast(tensors, {.rootRank = 1});
              }),
              HasSubstr("the ranks are 0 to 0"));
  EXPECT_THAT(error_of([] { MemoryWorld::create(0); }), HasSubstr("at least one rank"));
  EXPECT_THAT(error_of([] { MemoryWorld::create(2)->backend(2); }), HasSubstr("no local rank 2"));
  EXPECT_THAT(error_of([] { MemoryWorld::create(1, {.timeout = milliseconds(0)})->backend(0); }),
              HasSubstr("above zero"));
}

TEST(MemoryWorld, RefusesProcessesWithDifferentNumbersOfThreads) {
  on_every_rank(MemoryWorld::create(2), [](CollectiveBackend& between) {
    const auto self = c10::intrusive_ptr<CollectiveBackend>::reclaim_copy(&between);
    EXPECT_THAT(error_of([&] { MemoryWorld::create_over(self, between.getRank() + 1); }),
                HasSubstr("by process they have: 1 2"));
  });
}

}  // namespace
}  // namespace troupe
