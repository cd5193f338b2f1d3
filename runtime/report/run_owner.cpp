#include "troupe/runtime/report/run_owner.hpp"

#include "troupe/base/host_name.hpp"
#include "troupe/runtime/checkpoint/file_lock.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace troupe {

namespace {

constexpr int kTriesForLock = 100;

struct ProcessStat {
  char state = '?';
  int64_t began = 0;
};

// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html; none if it cannot be read.
std::optional<ProcessStat> stat_of_process(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text;
  std::getline(file, text, '\0');
  const auto name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  ProcessStat stat;
  fields >> stat.state;
  std::string skipped;
  constexpr int between = 18;  // state is the third field, starttime the 22nd
  for (int i = 0; i < between; ++i) fields >> skipped;
  fields >> stat.began;
  return fields ? std::optional(stat) : std::nullopt;
}

std::string namespace_of_processes() {
  std::error_code error;
  const auto link = std::filesystem::read_symlink("/proc/self/ns/pid", error);
  return error ? "" : link.string();
}

// Seconds since 1970; 0 if it is not known.
double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double time = 0;
    if (word == "btime" && file >> time) return time;
  }
  return 0;
}

int lock_folder(const std::filesystem::path& folder, int operation) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  if (::flock(descriptor, operation | LOCK_NB) == 0) return descriptor;
  const int why = errno;
  ::close(descriptor);
  errno = why;
  return -1;
}

// Shared, so that two that look do not take each other for the run.
Writer holder_of_lock(const std::filesystem::path& folder) {
  const int descriptor = lock_folder(folder, LOCK_SH);
  if (descriptor < 0) return errno == EWOULDBLOCK ? Writer::holds_it : Writer::cannot_be_told;
  ::close(descriptor);
  return Writer::is_gone;
}

bool is_no_process(int64_t pid) {
  return pid > 0 && ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
}

OwnerState state_on_this_machine(const RunOwner& owner, const std::filesystem::path& folder) {
  const bool counts_here = owner.pid > 0 && !owner.processes.empty() && owner.processes == namespace_of_processes();
  std::optional<ProcessStat> stat;
  if (counts_here) {
    if (is_no_process(owner.pid)) return OwnerState::is_gone;
    stat = stat_of_process(std::to_string(owner.pid));
    if (stat && owner.began > 0 && stat->began != owner.began) return OwnerState::is_gone;  // another one's number now
  }
  const auto holder = owner.holds_lock ? holder_of_lock(folder) : Writer::cannot_be_told;
  if (holder == Writer::is_gone) return OwnerState::is_gone;
  if (holder == Writer::holds_it) return OwnerState::lives;
  if (!stat) return counts_here ? OwnerState::lives : OwnerState::cannot_be_told;
  return stat->state == 'Z' || stat->state == 'X' ? OwnerState::is_gone : OwnerState::lives;
}

}  // namespace

RunOwner own_process() {
  RunOwner owner{::getpid(), machine_id(), namespace_of_processes(), 0, false};
  if (const auto stat = stat_of_process("self")) owner.began = stat->began;
  return owner;
}

RunLock::RunLock(const std::filesystem::path& folder) {
  for (int tries = 0; tries < kTriesForLock; ++tries) {
    descriptor_ = lock_folder(folder, LOCK_EX);
    if (descriptor_ >= 0 || errno != EWOULDBLOCK) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

RunLock::RunLock(RunLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

RunLock::~RunLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

OwnerState state_of_owner(const RunOwner& owner, const std::string& host, double updated,
                          const std::filesystem::path& folder) {
  const bool has_our_name = host == host_name();
  if (owner.machine.empty()) {  // of an older version, or of a system that does not say
    return has_our_name && is_no_process(owner.pid) ? OwnerState::is_gone : OwnerState::cannot_be_told;
  }
  if (owner.machine == machine_id()) return state_on_this_machine(owner, folder);
  const bool has_started_anew = has_our_name && !machine_id().empty() && updated < boot_time();
  return has_started_anew ? OwnerState::is_gone : OwnerState::cannot_be_told;
}

}  // namespace troupe
