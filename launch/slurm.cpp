#include "troupe/launch/slurm.hpp"

#include "troupe/runtime/collectives/launch_environment.hpp"

#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <optional>

extern char** environ;

namespace troupe {

namespace {

bool is_job_number(const std::string& text) {
  return !text.empty() && text.size() <= 20 && text.find_first_not_of("0123456789") == std::string::npos;
}

std::optional<std::string> job_number() {
  const auto array = environment_variable("SLURM_ARRAY_JOB_ID"), task = environment_variable("SLURM_ARRAY_TASK_ID");
  if (array && task && is_job_number(*array) && is_job_number(*task)) return *array + "_" + *task;
  const auto job = environment_variable("SLURM_JOB_ID");
  return job && is_job_number(*job) ? job : std::nullopt;
}

// scontrol belongs to the job too: SLURM sends it the SIGTERM of the requeue that it has just asked for, and the signal
// of
// --signal again, which would end it before it has heard the answer.
int start_without_signals(pid_t& child, const char* program, char* const* arguments) {
  sigset_t kept_off;
  sigemptyset(&kept_off);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU}) sigaddset(&kept_off, signal);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setsigmask(&attributes, &kept_off);
  const int error = posix_spawnp(&child, program, nullptr, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  return error;
}

}  // namespace

bool is_slurm_job() {
  return job_number().has_value();
}

std::vector<std::string> requeue_slurm_job() {
  const auto job = job_number();
  if (!job) return {};
  std::string program = "scontrol", verb = "requeue", number = *job;
  char* arguments[] = {program.data(), verb.data(), number.data(), nullptr};
  pid_t child = 0;
  if (const int error = start_without_signals(child, "scontrol", arguments); error != 0) {
    return {"warning: the job " + *job + " is not requeued: scontrol: " + std::strerror(error)};
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return {"warning: the job " + *job + " is not requeued: scontrol requeue failed"};
  }
  return {"the job " + *job + " is back in the queue"};
}

}  // namespace troupe
