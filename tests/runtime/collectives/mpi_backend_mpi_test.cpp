#include "troupe/runtime/collectives/mpi_backend.hpp"

#include "tests/runtime/collectives/operations.hpp"
#include "tests/runtime/collectives/ranks.hpp"
#include "tests/support/mpi_main.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/launch_environment.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <set>

namespace troupe {
namespace {

using namespace testing_collectives;
using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(MpiWorld, KnowsItsPlace) {
  const auto& world = mpi_world();
  MpiBackend backend(mpi_world());
  std::set<std::string> ranks;
  for (const auto& text : all_gather_bytes(backend, std::to_string(world.rank()))) ranks.insert(text);
  EXPECT_EQ(ranks.size(), static_cast<std::size_t>(world.size()));
  EXPECT_EQ(world.local_size(), world.size());  // all on this machine
  EXPECT_EQ(world.local_rank(), world.rank());
  ASSERT_EQ(world.hosts().size(), static_cast<std::size_t>(world.size()));
  EXPECT_EQ(world.hosts().front(), world.hosts().back());
  EXPECT_FALSE(world.hosts().front().empty());
}

// Unless somebody has chosen another one.
TEST(MpiWorld, HasATransportOnOneHostWithoutALookForOthers) {
  EXPECT_TRUE(environment_variable("OMPI_MCA_pml") || environment_variable("OMPI_MCA_btl") ||
              environment_variable("OMPI_MCA_mtl") ||
              std::filesystem::exists(environment_variable("HOME").value_or("") + "/.openmpi/mca-params.conf"));
}

TEST(MpiWorld, IsMadeOnce) {
  EXPECT_THROW(MpiWorld(), UsageError);
}

TEST(MpiBackend, AgreesWithAPlainSum) {
  MpiBackend backend(mpi_world());
  check_operations(backend);
}

TEST(MpiBackend, CutsLargeTensorsIntoPieces) {
  MpiBackend backend(mpi_world());
  check_large(backend);
}

TEST(MpiBackend, GathersWhatDiffersInSize) {
  MpiBackend backend(mpi_world());
  check_uneven(backend);
}

TEST(MpiBackend, CarriesThreadsOfEachProcess) {
  const auto world = MemoryWorld::create_over(c10::make_intrusive<MpiBackend>(mpi_world()), 2);
  on_every_rank(world, [](CollectiveBackend& backend) {
    check_operations(backend);
    check_large(backend);
    check_uneven(backend);
  });
}

TEST(MpiBackend, RunsManyOperationsAtOnceInTheirOrder) {
  MpiBackend backend(mpi_world());
  std::vector<at::Tensor> tensors;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (int i = 0; i < 100; ++i) {
    tensors.push_back(at::full({1 + 10 * i}, i));
    std::vector<at::Tensor> one = {tensors.back()};
    works.push_back(backend.allreduce(one));
  }
  works.back()->wait();
  for (const auto& work : works) EXPECT_TRUE(work->isSuccess());
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(tensors[static_cast<std::size_t>(i)].eq(i * backend.getSize()).all().item<bool>());
  }
}

TEST(MpiBackend, NamesCallsThatDoNotFitWhereItIsAskedTo) {
  MpiBackend backend(mpi_world(), {.check_calls = true});
  check_uneven(backend);
  if (backend.getSize() == 1) return;
  const auto error = error_of([&] { all_reduce(backend, at::ones({backend.getRank() == 1 ? 4 : 3})); });
  EXPECT_THAT(error,
              HasSubstr("rank 0 calls all-reduce (sum) of Float [3], rank 1 calls all-reduce (sum) of Float [4]"));
  EXPECT_EQ(error_of([&] { backend.barrier(); }), error);  // the order of the ranks is lost
}

TEST(MpiBackend, TimesOutWhereARankDoesNotCome) {
  MpiBackend all(mpi_world());
  MpiBackend backend(mpi_world(), {.timeout = milliseconds(200)});
  if (backend.getSize() == 1) return;
  if (backend.getRank() == 0) {
    const auto work = backend.barrier();
    work->getFuture()->wait();
    EXPECT_THAT(error_of([&] { work->wait(); }),
                HasSubstr("barrier number 1 of rank 0 of " + std::to_string(backend.getSize()) +
                          " (0 bytes) was not finished within 0.2 s"));
    EXPECT_THROW(backend.barrier(), CollectiveTimeout);
  }
  all.barrier()->wait();
  // The others come, after all: rank 0's thread is still in there, and the processes can end.
  c10d::BarrierOptions patient;
  patient.timeout = std::chrono::minutes(1);
  if (backend.getRank() != 0) backend.barrier(patient)->wait();
}

}  // namespace
}  // namespace troupe
