#include "troupe/runtime/collectives/launch_environment.hpp"

#include "troupe/base/failure.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <regex>

namespace troupe {
namespace {

int number(const Environment& environment, const char* name, std::optional<int> otherwise = {}) {
  const auto text = environment(name);
  if (!text) {
    if (otherwise) return *otherwise;
    throw UsageError(std::string("the environment has variables of torchrun's, but no ") + name);
  }
  int value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size() || value < 0) {
    throw UsageError(std::string("the environment variable ") + name + " has to be a number from 0 on, and is '" +
                     *text + "'");
  }
  return value;
}

void check_rank(const char* name, int rank, int size) {
  if (rank < size) return;
  throw UsageError(std::string("the environment variable ") + name + " is " + std::to_string(rank) +
                   ", which is no rank among " + std::to_string(size));
}

LaunchEnvironment of_torchrun(const Environment& environment) {
  LaunchEnvironment found{.launcher = Launcher::torchrun};
  found.rank = number(environment, "RANK");
  found.size = number(environment, "WORLD_SIZE");
  found.local_rank = number(environment, "LOCAL_RANK", 0);
  found.local_size = number(environment, "LOCAL_WORLD_SIZE", found.local_rank + 1);
  check_rank("RANK", found.rank, found.size);
  check_rank("LOCAL_RANK", found.local_rank, found.local_size);
  found.store_port = number(environment, "MASTER_PORT");
  const auto host = environment("MASTER_ADDR");
  if (!host || host->empty()) throw UsageError("the environment has variables of torchrun's, but no MASTER_ADDR");
  found.store_host = *host;
  return found;
}

// Variables of PMIx from an outer step: `srun --mpi=pmi2` and `--mpi=none` hand on those of the shell that called them.
bool is_of_another_step(const Environment& environment) {
  const auto pmix = environment("PMIX_NAMESPACE"), job = environment("SLURM_JOB_ID"),
             step = environment("SLURM_STEP_ID");
  if (!pmix || !job || !step) return false;
  const std::string of_job = "slurm.pmix." + *job + ".";
  return pmix->starts_with(of_job) && *pmix != of_job + *step;
}

// In a step of srun's without PMIx, which a process has to be alone in. The shell of `srun --pty bash` or `salloc` has
// the variables of its step, as have all programs that are started in it.
void check_tasks(const Environment& environment) {
  const int tasks = number(environment, "SLURM_STEP_NUM_TASKS");
  if (tasks <= 1) return;
  const auto name = environment("SLURM_JOB_NAME");
  const bool is_shell = name == "bash" || name == "interactive";
  const bool is_task = number(environment, "SLURM_TASK_PID", 0) == getpid();  // itself, which no shell started
  if (is_shell && !is_task && number(environment, "SLURM_PROCID", 0) == 0) return;
  const bool has_pmi = environment("PMI_RANK") || environment("PMI_SIZE");
  throw UsageError("srun" + std::string(has_pmi ? " --mpi=pmi2" : "") + " started " + std::to_string(tasks) +
                   " tasks, but without what Open MPI needs to find them: use srun --mpi=pmix");
}

}  // namespace

std::optional<std::string> environment_variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody changes the environment
  return value ? std::optional<std::string>(value) : std::nullopt;
}

LaunchEnvironment launch_environment(const Environment& environment) {
  if (environment("OMPI_COMM_WORLD_SIZE") || (environment("PMIX_RANK") && !is_of_another_step(environment))) {
    return {.launcher = Launcher::mpi, .size = number(environment, "OMPI_COMM_WORLD_SIZE", 1)};
  }
  if (environment("SLURM_STEP_NUM_TASKS")) {
    check_tasks(environment);
  } else if (environment("PMI_SIZE") || environment("PMI_RANK")) {
    return {.launcher = Launcher::mpi, .size = number(environment, "PMI_SIZE", 1)};
  }
  if (environment("RANK") && environment("WORLD_SIZE")) return of_torchrun(environment);
  return {};
}

std::vector<std::pair<std::string, std::string>> mpi_transports(const Environment& environment,
                                                                std::string_view users_file) {
  const auto size = environment("OMPI_COMM_WORLD_SIZE"), here = environment("OMPI_COMM_WORLD_LOCAL_SIZE");
  const bool one_host = size ? here == size : environment("SLURM_STEP_NUM_NODES") == "1";
  const auto is_chosen = [&](std::initializer_list<const char*> names) {
    if (environment("OMPI_MCA_mca_base_param_files")) return true;
    return std::ranges::any_of(names, [&](const std::string& name) {
      const std::regex line("(^|\n)[ \t]*" + name + "[ \t]*=");
      return environment(("OMPI_MCA_" + name).c_str()) || std::regex_search(users_file.begin(), users_file.end(), line);
    });
  };
  if (one_host) {
    if (is_chosen({"pml", "btl", "mtl"})) return {};
    return {{"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_btl", "self,vader,tcp"}};
  }
  if (is_chosen({"btl_tcp_flags", "btl_tcp_max_send_size", "btl_tcp_rdma_pipeline_frag_size",
                 "btl_tcp_rdma_pipeline_send_length", "btl_tcp_min_rdma_pipeline_size"})) {
    return {};
  }
  return {{"OMPI_MCA_btl_tcp_flags", "send"}, {"OMPI_MCA_btl_tcp_max_send_size", "262144"}};
}

void check_size_of_mpi(const LaunchEnvironment& launched, int found) {
  if (launched.size <= found) return;
  throw UsageError(
      "the launcher started " + std::to_string(launched.size) + " processes, and MPI finds " + std::to_string(found) +
      ": it is not the mpirun of the MPI that this program was linked to; use launch/run, or srun --mpi=pmix");
}

}  // namespace troupe
