#include "troupe/runtime/collectives/launch_environment.hpp"

#include "troupe/modules/failure.hpp"

#include <charconv>
#include <cstdlib>

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

}  // namespace

std::optional<std::string> environment_variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody changes the environment
  return value ? std::optional<std::string>(value) : std::nullopt;
}

LaunchEnvironment launch_environment(const Environment& environment) {
  for (const char* const name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (environment(name)) return {.launcher = Launcher::mpi};
  }
  if (const int tasks = number(environment, "SLURM_STEP_NUM_TASKS", 1); tasks > 1) {
    throw UsageError("srun started " + std::to_string(tasks) +
                     " tasks, but without what MPI needs to find them: use srun --mpi=pmix");
  }
  if (environment("RANK") && environment("WORLD_SIZE")) return of_torchrun(environment);
  return {};
}

}  // namespace troupe
