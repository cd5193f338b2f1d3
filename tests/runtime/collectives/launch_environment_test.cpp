#include "troupe/runtime/collectives/launch_environment.hpp"

#include "tests/runtime/collectives/ranks.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <map>
#include <string>

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

}  // namespace
}  // namespace troupe
