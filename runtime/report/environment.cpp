#include "troupe/runtime/report/environment.hpp"

#include "troupe/base/host_name.hpp"
#include "troupe/base/version.hpp"

#include <torch/version.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef TROUPE_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

extern char** environ;

namespace troupe {

namespace {

constexpr std::string_view kProcessorKey = "model name";
constexpr auto kGitPatience = std::chrono::seconds(5);

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with(kProcessorKey) && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

std::string system_name() {
  utsname name{};
  return uname(&name) == 0 ? std::string(name.sysname) + " " + name.release + " " + name.machine : "";
}

/// What comes out of `descriptor` until its end; nothing if that takes longer than kGitPatience.
std::optional<std::string> all_of(int descriptor) {
  std::string text;
  const auto deadline = std::chrono::steady_clock::now() + kGitPatience;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd ready{descriptor, POLLIN, 0};
    if (left <= 0 || poll(&ready, 1, static_cast<int>(left)) <= 0) return std::nullopt;
    std::array<char, 4096> part{};
    const auto got = read(descriptor, part.data(), part.size());
    if (got <= 0) return got == 0 ? std::optional(text) : std::nullopt;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
}

/// What a program prints; nothing if it cannot be started, fails or takes too long.
std::optional<std::string> output_of(std::vector<std::string> command) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return std::nullopt;
  std::vector<char*> arguments;
  for (auto& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  pid_t child = 0;
  const bool runs = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::optional<std::string> text = runs ? all_of(ends[0]) : std::nullopt;
  close(ends[0]);
  if (!runs) return std::nullopt;
  if (!text) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? text : std::nullopt;
}

std::string cuda_version() {
#ifdef TROUPE_HAS_CUDA
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
#else
  return "";
#endif
}

}  // namespace

RunEnvironment find_environment() {
  RunEnvironment environment;
  environment.host = host_name();
  environment.system = system_name();
  environment.processor = processor_name();
  environment.pid = getpid();
  environment.troupe = library_version;
  environment.libtorch = TORCH_VERSION;
  environment.compiler = "g++ " __VERSION__;
  environment.cuda = cuda_version();
  return environment;
}

// Nothing that the repository configures is run.
void find_git_state(RunEnvironment& environment, const std::filesystem::path& folder) {
  constexpr std::string_view commit = "# branch.oid ";
  const auto status =
      output_of({"git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", folder.string(), "status",
                 "--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=all"});
  if (!status) return;
  std::istringstream lines(*status);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(commit)) environment.git_commit = line.substr(commit.size());
    if (!line.starts_with('#')) environment.git_is_dirty = true;
  }
  if (environment.git_commit == "(initial)") environment.git_commit.clear();
}

const RunEnvironment& git_state_of_process() {
  static const RunEnvironment environment = [] {
    RunEnvironment found;
    std::error_code error;
    const auto folder = std::filesystem::current_path(error);
    if (!error) find_git_state(found, folder);
    return found;
  }();
  return environment;
}

}  // namespace troupe
