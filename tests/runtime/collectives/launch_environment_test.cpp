#include "troupe/runtime/collectives/launch_environment.hpp"

#include "tests/runtime/collectives/operations.hpp"
#include "tests/runtime/collectives/ranks.hpp"
#include "tests/support/heard.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"
#include "troupe/runtime/collectives/launch.hpp"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <map>
#include <string>
#include <vector>

namespace troupe {
namespace {

using testing::HasSubstr;

Environment with(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
}

TEST(LaunchEnvironment, IsAloneWithoutVariables) {
  EXPECT_EQ(launch_environment(with({})).launcher, Launcher::none);
  EXPECT_EQ(launch_environment(with({{"SLURM_STEP_NUM_TASKS", "1"}})).launcher, Launcher::none);
}

TEST(LaunchEnvironment, KnowsMpi) {
  EXPECT_EQ(launch_environment(with({{"OMPI_COMM_WORLD_SIZE", "4"}})).launcher, Launcher::mpi);
  EXPECT_EQ(launch_environment(with({{"SLURM_STEP_NUM_TASKS", "2"}, {"PMIX_RANK", "1"}})).launcher, Launcher::mpi);
  // mpirun passes on what somebody exported for torchrun.
  EXPECT_EQ(launch_environment(with({{"OMPI_COMM_WORLD_SIZE", "4"}, {"RANK", "0"}, {"WORLD_SIZE", "1"}})).launcher,
            Launcher::mpi);
}

TEST(LaunchEnvironment, LeavesNetworkCardsOutOnOneHost) {
  using testing::ElementsAre, testing::Pair, testing::IsEmpty;
  std::map<std::string, std::string> here{{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}};
  const auto chosen = ElementsAre(Pair("OMPI_MCA_pml", "ob1"), Pair("OMPI_MCA_btl", "self,vader,tcp"));
  EXPECT_THAT(mpi_transports(with(here), ""), chosen);
  EXPECT_THAT(mpi_transports(with(here), "# pml = ucx\nbtl_tcp_if_include = lo\n"), chosen);
  EXPECT_THAT(mpi_transports(with({{"PMIX_RANK", "1"}, {"SLURM_STEP_NUM_NODES", "1"}}), ""), chosen);
  // Somebody has chosen.
  EXPECT_THAT(mpi_transports(with(here), "# ours\n btl = self,tcp\n"), IsEmpty());
  for (const char* const name : {"OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl", "OMPI_MCA_mca_base_param_files"}) {
    auto variables = here;
    variables[name] = "ucx";
    EXPECT_THAT(mpi_transports(with(variables), ""), IsEmpty()) << name;
  }
}

TEST(LaunchEnvironment, PushesMessagesBetweenHosts) {
  using testing::ElementsAre, testing::Pair, testing::IsEmpty;
  const std::map<std::string, std::string> two{{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const auto chosen =
      ElementsAre(Pair("OMPI_MCA_btl_tcp_flags", "send"), Pair("OMPI_MCA_btl_tcp_max_send_size", "262144"));
  EXPECT_THAT(mpi_transports(with(two), "pml = ob1\nbtl_tcp_if_include = eth1\n"), chosen);
  EXPECT_THAT(mpi_transports(with({{"PMIX_RANK", "1"}, {"SLURM_STEP_NUM_NODES", "2"}}), ""), chosen);
  EXPECT_THAT(mpi_transports(with({{"PMIX_RANK", "1"}}), ""), chosen) << "it is not known how many hosts there are";
  // Somebody has chosen.
  EXPECT_THAT(mpi_transports(with(two), "btl_tcp_flags=put\n"), IsEmpty());
  for (const char* const name : {"OMPI_MCA_btl_tcp_rdma_pipeline_frag_size", "OMPI_MCA_mca_base_param_files"}) {
    auto variables = two;
    variables[name] = "65536";
    EXPECT_THAT(mpi_transports(with(variables), ""), IsEmpty()) << name;
  }
}

TEST(LaunchEnvironment, RefusesPmi2WhichOpenMpiCannotUse) {
  const auto error = error_of([] {
    launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"}, {"PMI_RANK", "1"}, {"PMI_SIZE", "4"}}));
  });
  EXPECT_THAT(error, HasSubstr("srun --mpi=pmi2 started 4 tasks"));
  EXPECT_THAT(error, HasSubstr("use srun --mpi=pmix"));
  EXPECT_EQ(launch_environment(with({{"SLURM_STEP_NUM_TASKS", "1"}, {"PMI_RANK", "0"}, {"PMI_SIZE", "1"}})).launcher,
            Launcher::none);
  EXPECT_EQ(launch_environment(with({{"PMI_RANK", "1"}, {"PMI_SIZE", "4"}})).launcher, Launcher::mpi) << "of MPICH";
}

// What srun 22.05 leaves in the environment when a shell of `srun --mpi=pmix` calls it with another --mpi.
TEST(LaunchEnvironment, KnowsAnOuterStepsPmix) {
  std::map<std::string, std::string> inner{
      {"PMIX_NAMESPACE", "slurm.pmix.7.0"}, {"PMIX_RANK", "0"},    {"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NAME", "train"},
      {"SLURM_STEP_NUM_TASKS", "2"},        {"SLURM_STEP_ID", "1"}};
  EXPECT_THAT(error_of([&] { launch_environment(with(inner)); }), HasSubstr("srun started 2 tasks"));
  inner["PMI_RANK"] = "1";
  EXPECT_THAT(error_of([&] { launch_environment(with(inner)); }), HasSubstr("srun --mpi=pmi2 started 2 tasks"));
  inner["SLURM_STEP_NUM_TASKS"] = "1";
  EXPECT_EQ(launch_environment(with(inner)).launcher, Launcher::none);
  inner["PMIX_NAMESPACE"] = "slurm.pmix.7.1";
  EXPECT_EQ(launch_environment(with(inner)).launcher, Launcher::mpi);
  inner["PMIX_NAMESPACE"] = "slurm.pmix.6.0";  // the parts of a heterogeneous job have numbers of their own
  EXPECT_EQ(launch_environment(with(inner)).launcher, Launcher::mpi);
}

TEST(LaunchEnvironment, IsAloneInAShellOfSlurms) {
  for (const char* const name : {"bash", "interactive"}) {
    EXPECT_EQ(launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_JOB_NAME", name}})).launcher,
              Launcher::none);
    EXPECT_EQ(launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"},
                                       {"SLURM_JOB_NAME", name},
                                       {"SLURM_PROCID", "0"},
                                       {"PMI_RANK", "0"},
                                       {"PMI_SIZE", "4"}}))
                  .launcher,
              Launcher::none);
    // What srun starts in that shell has the job's name too, and several of them are no shell.
    EXPECT_THAT(
        error_of([&] {
          launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_JOB_NAME", name}, {"SLURM_PROCID", "2"}}));
        }),
        HasSubstr("use srun --mpi=pmix"));
    // Nor is the first of them, which is the very process that srun started.
    EXPECT_THAT(error_of([&] {
                  launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"},
                                           {"SLURM_JOB_NAME", name},
                                           {"SLURM_PROCID", "0"},
                                           {"SLURM_TASK_PID", std::to_string(getpid())}}));
                }),
                HasSubstr("use srun --mpi=pmix"));
    EXPECT_EQ(launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_JOB_NAME", name}, {"PMIX_RANK", "2"}}))
                  .launcher,
              Launcher::mpi);
  }
  EXPECT_THAT(error_of([] {
                launch_environment(with({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_JOB_NAME", "train"}}));
              }),
              HasSubstr("use srun --mpi=pmix"));
}

TEST(LaunchEnvironment, RefusesTheLauncherOfAnotherMpi) {
  const auto four = launch_environment(with({{"PMI_RANK", "1"}, {"PMI_SIZE", "4"}}));
  EXPECT_THAT(error_of([&] { check_size_of_mpi(four, 1); }), HasSubstr("started 4 processes, and MPI finds 1"));
  EXPECT_EQ(error_of([&] { check_size_of_mpi(four, 4); }), "");
  const auto unknown = launch_environment(with({{"PMIX_RANK", "1"}}));
  EXPECT_EQ(error_of([&] { check_size_of_mpi(unknown, 1); }), "");
}

TEST(LaunchEnvironment, ReadsTorchruns) {
  const auto found = launch_environment(with({{"RANK", "3"},
                                              {"WORLD_SIZE", "4"},
                                              {"LOCAL_RANK", "1"},
                                              {"LOCAL_WORLD_SIZE", "2"},
                                              {"MASTER_ADDR", "node0"},
                                              {"MASTER_PORT", "29500"}}));
  EXPECT_EQ(found.launcher, Launcher::torchrun);
  EXPECT_EQ(found.rank, 3);
  EXPECT_EQ(found.size, 4);
  EXPECT_EQ(found.local_rank, 1);
  EXPECT_EQ(found.local_size, 2);
  EXPECT_EQ(found.store_host, "node0");
  EXPECT_EQ(found.store_port, 29500);
}

TEST(LaunchEnvironment, SaysWhatIsWrong) {
  const auto error = [](std::map<std::string, std::string> variables) {
    return error_of([&] { launch_environment(with(variables)); });
  };
  EXPECT_THAT(error({{"SLURM_STEP_NUM_TASKS", "4"}}), HasSubstr("srun started 4 tasks"));
  EXPECT_THAT(error({{"SLURM_STEP_NUM_TASKS", "4"}}), HasSubstr("use srun --mpi=pmix"));
  EXPECT_THAT(error({{"RANK", "4"}, {"WORLD_SIZE", "4"}}), HasSubstr("RANK is 4, which is no rank among 4"));
  EXPECT_THAT(error({{"RANK", "one"}, {"WORLD_SIZE", "4"}}),
              HasSubstr("RANK has to be a number from 0 on, and is 'one'"));
  EXPECT_THAT(error({{"RANK", "1"}, {"WORLD_SIZE", "4"}}), HasSubstr("no MASTER_PORT"));
  EXPECT_THAT(error({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"MASTER_PORT", "1"}}), HasSubstr("no MASTER_ADDR"));
}

// --- What each launcher gives ---

constexpr std::chrono::milliseconds no_time{0};

void expect_that_none_may_be_lost(Launch& launch) {
  const Launch::Regrouping untouched{.part = [] { ADD_FAILURE(); }, .join = [] { ADD_FAILURE(); }};
  EXPECT_FALSE(launch.survives_losses());
  EXPECT_FALSE(launch.has_losses(no_time));
  launch.keep_spares(0, untouched);
  EXPECT_FALSE(launch.is_spare());
  EXPECT_THROW(launch.agree(Launch::Outcome::lost, no_time), CollectiveError);
  EXPECT_THAT(error_of([&] { launch.recover(untouched); }),
              HasSubstr("only processes that mpirun or srun started can go on after one of them is lost"));
}

TEST(Launch, OfAProcessThatWasStartedAloneHasNoOthers) {
  const auto launch = make_launch({});
  EXPECT_EQ(launch->rank(), 0);
  EXPECT_EQ(launch->size(), 1);
  EXPECT_EQ(launch->local_rank(), 0);
  EXPECT_EQ(launch->local_size(), 1);
  EXPECT_EQ(launch->host(), "");
  EXPECT_EQ(launch->name_of(0), "process 0");
  testing_collectives::check_operations(*launch->make_between({}, std::chrono::microseconds(50)));
  EXPECT_EQ(launch->make_store(no_time)->add("count", 2), 2);
  launch->listen({.told = [](const std::string&) { ADD_FAILURE(); }, .lost = [](const Failure&) { ADD_FAILURE(); }});
  launch->announce("to nobody", no_time);
  launch->stop_listening();
  expect_that_none_may_be_lost(*launch);
}

TEST(Launch, OfTheOnlyProcessOfTorchrunsNeedsNoStore) {
  const auto launch = make_launch({.launcher = Launcher::torchrun,
                                   .local_rank = 1,
                                   .local_size = 2,
                                   .store_host = "nowhere.invalid",
                                   .store_port = 29500});
  EXPECT_EQ(launch->size(), 1);
  EXPECT_EQ(launch->local_rank(), 1);
  EXPECT_EQ(launch->local_size(), 2);
}

// In order.
struct HeardMessages : Heard<std::vector<std::string>> {
  Launch::Listener listener() {
    return {.told = [this](const std::string& message) { add([&](auto& all) { all.push_back(message); }); },
            .lost = [](const Failure&) { ADD_FAILURE(); }};
  }
};

TEST(Launch, OfTorchrunsProcessesHasAllThroughItsStore) {
  c10d::TCPStoreOptions options;
  options.port = 0;  // any that is free
  options.isServer = true;
  options.waitWorkers = false;
  const auto store = c10::make_intrusive<c10d::TCPStore>("localhost", options);
  std::vector<std::unique_ptr<Launch>> launches;
  for (const int rank : {0, 1}) {
    launches.push_back(make_launch({.launcher = Launcher::torchrun,
                                    .rank = rank,
                                    .size = 2,
                                    .local_rank = rank,
                                    .local_size = 2,
                                    .store_host = "localhost",
                                    .store_port = store->getPort()}));
    EXPECT_EQ(launches.back()->rank(), rank);
    EXPECT_EQ(launches.back()->size(), 2);
    EXPECT_EQ(launches.back()->local_rank(), rank);
    EXPECT_EQ(launches.back()->local_size(), 2);
    EXPECT_EQ(launches.back()->host(), host_name());
    EXPECT_EQ(launches.back()->names_of({1, 0}), "process 1, process 0");
    expect_that_none_may_be_lost(*launches.back());
  }
  auto& first = *launches[0];
  auto& second = *launches[1];
  {
    std::vector<std::jthread> ranks;
    for (const auto& launch : launches) {
      ranks.emplace_back([&] {
        for (int group = 0; group < 2; ++group) {
          testing_collectives::check_operations(*launch->make_between({}, std::chrono::microseconds(50)));
        }
      });
    }
  }
  first.make_store(no_time)->set("where", "here");
  EXPECT_EQ(second.make_store(no_time)->get_to_str("where"), "here");

  HeardMessages of_first, of_second;
  first.listen(of_first.listener());
  second.listen(of_second.listener());
  first.announce("of the first", no_time);
  EXPECT_THAT(of_second.wait_for(1), testing::ElementsAre("of the first"));
  second.announce("of the second", no_time);
  EXPECT_THAT(of_first.wait_for(1), testing::ElementsAre("of the second"));  // not its own, which was before
  first.stop_listening();
  first.announce("to nobody", no_time);
  second.announce("to nobody", no_time);
  second.stop_listening();
  EXPECT_EQ(of_first.wait_for(1).size(), 1U);
}

}  // namespace
}  // namespace troupe
