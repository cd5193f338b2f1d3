// Ctrl-C for the time of a run.
#pragma once

#include <functional>
#include <memory>

namespace troupe {

/// While it lives, SIGINT, SIGTERM and SIGUSR1 (with which SLURM announces the end of a job's time, and launch/run
/// passes Ctrl-C on) call `on_signal` once, on a thread of its own; a second Ctrl-C ends the process at once, as
/// does a second one of the others. The handlers from before come back at the end. One at a time in a process; a second
/// one, and one where the program ignores the signal, leave things as they are.
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

/// "SIGINT" and the like.
const char* name_of_signal(int signal);

}  // namespace troupe
