// The last word of a process that crashes.
#pragma once

#include "troupe/runtime/process/pulse.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// A worker of this process.
struct CrashPlace {
  std::shared_ptr<const Pulse> pulse;
  int64_t rank = 0;
  std::string host;  ///< as in Failure
  std::string device;
};

/// While it lives, SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT first write <folder>/failure.json
/// (runtime/report/failure_file.hpp), which says where the worker was whose thread it is (of another thread: the worker
/// that was at work), the same behind <folder>/report.html, which shows it, and one line on stderr. Then the process
/// ends as it would have without: by the same signal, with its core dump. A failure.json of this run that is there
/// already stays: the first failure wins.
///
/// A signal that somebody else handles (a sanitizer, the program) is left alone, Open MPI's stack traces excepted,
/// which come after. One at a time in a process, made and ended by one thread; a second one does nothing. The handlers
/// allocate nothing and take no lock (signal-safety(7)).
class CrashNote {
 public:
  /// An empty `folder`: only the line. There is at least one place.
  CrashNote(const std::filesystem::path& folder, std::vector<CrashPlace> places);
  ~CrashNote();
  CrashNote(const CrashNote&) = delete;
  CrashNote& operator=(const CrashNote&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe
