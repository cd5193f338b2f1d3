// Signals for the time of a run.
#pragma once

#include <array>
#include <csignal>
#include <functional>
#include <memory>

namespace troupe {

/// While it lives, the signals that ask a program to end call `on_signal` once, on a thread of its own: SIGINT,
/// SIGTERM, SIGHUP (the terminal is gone), SIGUSR1 and SIGUSR2 (with which a queue announces the end of a job's time,
/// and launch/run passes Ctrl-C on) and SIGXCPU (the limit of CPU time is near). A second one of the same kind ends the
/// process at once, so a second Ctrl-C does; SIGHUP and SIGXCPU, which the system itself repeats, do not, nor does
/// SIGTERM in a job of SLURM's (SLURM_JOB_ID), which sends it twice at the job's time limit. What the program ignores
/// stays as it is; the handlers from before come back at the end. One at a time in a process; a second one leaves
/// things as they are.
class SignalWatch {
 public:
  explicit SignalWatch(std::function<void(int signal)> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// From now on to the end of the process, a SIGUSR1 or SIGUSR2 that comes while there is no SignalWatch is kept for the
/// next one, which calls `on_signal` with it at once: the end of a queue's job may be announced while its program
/// starts. A second one ends the process. What the program ignores or handles itself stays as it is.
void keep_announcements();

/// While it lives, the signals that report a write which cannot be are passed over, and the write fails with its
/// reason: SIGPIPE (whoever read the output has ended) and SIGXFSZ (the file is as large as files may be). What the
/// program handles itself stays as it is, and so do the programs that it starts. Used by one thread.
class FailedWrites {
 public:
  FailedWrites();
  ~FailedWrites();
  FailedWrites(const FailedWrites&) = delete;
  FailedWrites& operator=(const FailedWrites&) = delete;

 private:
  std::array<struct sigaction, 2> before_{};
};

/// SIGPIPE is passed over from now on, to the end of the process, which writes what is left of the output.
void outlive_readers();

/// SIGTERM is passed over from now on, to the end of the process, unless the program handles it itself. SLURM sends it
/// to all tasks of a job that is requeued, at once, and SIGKILL after KillWait.
void outlive_sigterm();

/// "SIGINT" and the like.
const char* name_of_signal(int signal);

}  // namespace troupe
