// Whether the process that a run belongs to is there still, as others on its machine can tell.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace troupe {

/// The process of rank zero, in run.json. Numbers of processes mean something within one namespace of one boot of one
/// machine, and are given anew; so all of that is part of it.
struct RunOwner {
  int64_t pid = 0;
  std::string machine;      ///< machine_id(); empty if not known, as in cards of older versions
  std::string processes;    ///< the namespace that `pid` counts in; empty if not known
  int64_t began = 0;        ///< when the process began, in clock ticks since the machine was started; 0: not known
  bool holds_lock = false;  ///< of the folder (RunLock), as long as the run goes on
};

/// This process.
RunOwner own_process();

/// A lock (flock) on a run's folder while its files say that it is running. It ends with the process, however that
/// ends, and all processes of one kernel see it, those in other containers too. It leaves no file behind. File systems
/// that lock no folders (NFS) give none: holds() says so, and nothing else is different.
class RunLock {
 public:
  RunLock() = default;
  /// Waits for others that just look, for 0.1 s at most.
  explicit RunLock(const std::filesystem::path& folder);
  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&& other) noexcept;
  ~RunLock();

  bool holds() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

enum class OwnerState { lives, is_gone, cannot_be_told };

/// What has become of a run's process. On the same boot of the same machine the lock of `folder` says it, else the
/// number of the process together with its beginning; a zombie is gone. If the machine (by its name, `host`) has been
/// started anew since the run's files were written (`updated`, seconds since 1970) it is gone too. Of other machines
/// nobody can tell.
OwnerState state_of_owner(const RunOwner& owner, const std::string& host, double updated,
                          const std::filesystem::path& folder);

}  // namespace troupe
