#include "troupe/runtime/collectives/launch.hpp"

#include "troupe/runtime/collectives/collective_error.hpp"

#include <csignal>
#include <cstdlib>
#include <iostream>

namespace troupe {

namespace {

[[noreturn]] void refuse_to_lose_one() {
  throw CollectiveError("only processes that mpirun or srun started can go on after one of them is lost");
}

}  // namespace

std::unique_ptr<Launch> make_launch(const LaunchEnvironment& launched) {
  if (launched.launcher == Launcher::mpi) return make_mpi_launch(launched);
  if (launched.launcher == Launcher::torchrun && launched.size > 1) return make_torchrun_launch(launched);
  return make_lone_launch(launched);
}

std::string Launch::name_of(int64_t process) const {
  return "process " + std::to_string(process);
}

std::string Launch::names_of(const std::vector<int>& processes) const {
  std::string text;
  for (const int process : processes) text += (text.empty() ? "" : ", ") + name_of(process);
  return text;
}

void Launch::keep_spares(int64_t /*most*/, const Regrouping& /*regrouping*/) {}

Launch::Outcome Launch::agree(Outcome /*mine*/, std::chrono::milliseconds /*patience*/) {
  refuse_to_lose_one();
}

std::string Launch::recover(const Regrouping& /*regrouping*/) {
  refuse_to_lose_one();
}

// By a signal: of a process that exits MPI tells nobody.
void Launch::leave_the_others(const std::string& why) {
  std::cerr << "troupe: " + why + "; this process ends, and the others go on without it\n";
  std::cerr.flush();
  std::raise(SIGKILL);
  std::abort();  // it does not return
}

}  // namespace troupe
