#include "troupe/runtime/collectives/store_backend.hpp"

#include "tests/runtime/collectives/operations.hpp"
#include "tests/runtime/collectives/ranks.hpp"

#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <gmock/gmock.h>

namespace troupe {
namespace {

using namespace testing_collectives;
using std::chrono::milliseconds;

class StoreBackendOf : public testing::TestWithParam<int> {};

TEST_P(StoreBackendOf, AgreesWithAPlainSumAndLeavesNothingBehind) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  {
    std::vector<std::jthread> ranks;
    for (int rank = 0; rank < GetParam(); ++rank) {
      ranks.emplace_back([&, rank] {
        StoreBackend backend(store, rank, GetParam());
        check_operations(backend);
        check_uneven(backend);
      });
    }
  }
  EXPECT_EQ(store->getNumKeys(), 0);
}

INSTANTIATE_TEST_SUITE_P(Ranks, StoreBackendOf, testing::Values(1, 2, 3));

TEST(StoreBackend, NamesSizesThatDoNotFit) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  StoreBackend first(store, 0, 2), second(store, 1, 2);
  std::vector<at::Tensor> three = {at::ones({3})}, four = {at::ones({4})};
  const auto work = first.allreduce(three);
  const auto other = second.allreduce(four);
  EXPECT_EQ(error_of([&] { work->wait(); }),
            "the ranks call different operations: rank 1 gives 16 bytes, and rank 0 expects 12");
  EXPECT_NE(error_of([&] { other->wait(); }), "");
}

TEST(StoreBackend, TimesOutWhereARankDoesNotCome) {
  StoreBackend backend(c10::make_intrusive<c10d::HashStore>(), 0, 2, {.timeout = milliseconds(20)});
  EXPECT_NE(error_of([&] { backend.barrier()->wait(); }), "");
  EXPECT_NE(error_of([&] { backend.barrier(); }), "");
  EXPECT_THAT(error_of([] { StoreBackend(c10::make_intrusive<c10d::HashStore>(), 2, 2); }),
              testing::HasSubstr("no rank 2"));
}

}  // namespace
}  // namespace troupe
