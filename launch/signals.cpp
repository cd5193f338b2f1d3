#include "troupe/launch/signals.hpp"

#include "troupe/runtime/collectives/launch_environment.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <thread>
#include <tuple>

#include <fcntl.h>
#include <unistd.h>

namespace troupe {

namespace {

constexpr std::array asking = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};
constexpr std::array announcing = {SIGUSR1, SIGUSR2};
constexpr std::array failing_writes = {SIGPIPE, SIGXFSZ};

// A handler may do little more than write to a pipe; -1: nobody watches.
std::atomic<int> pipe_end{-1};

// One that came while nobody watched; 0: none.
std::atomic<int> early_signal{0};

// In a job of SLURM's. At the time limit it sends SIGTERM to the job and to the step, to each task twice therefore;
// SIGKILL follows by itself, after KillWait.
std::atomic<bool> slurm_repeats_sigterm{false};

// A terminal that closes tells its shell too, which tells its jobs; the limit of CPU time is told of every second.
bool is_repeated_by_the_system(int signal) {
  return signal == SIGHUP || signal == SIGXCPU || (signal == SIGTERM && slurm_repeats_sigterm.load());
}

// Unlike SIG_IGN it is not handed down to programs that the run starts.
void pass_over(int) {}

void on_any_signal(int signal) {
  const auto byte = static_cast<char>(signal);
  if (const int end = pipe_end.load(); end >= 0) (void)!write(end, &byte, 1);
  std::signal(signal, is_repeated_by_the_system(signal) ? pass_over : SIG_DFL);
}

void keep(int signal) {
  early_signal = signal;
  std::signal(signal, SIG_DFL);
}

struct sigaction action_of(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  return action;
}

// What was there before, and stays if it is the program's.
struct sigaction handle_by_default(int signal, void (*handler)(int)) {
  struct sigaction before {};
  const auto action = action_of(handler);
  if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_DFL) sigaction(signal, &action, nullptr);
  return before;
}

}  // namespace

struct SignalWatch::State {
  std::function<void(int)> on_signal;
  int read_end = -1, write_end = -1;
  std::array<struct sigaction, asking.size()> before{};
  std::thread thread;

  void listen() {
    char byte = 0;
    while (read(read_end, &byte, 1) == 1 && byte != 0) on_signal(byte);
  }
};

const char* name_of_signal(int signal) {
  switch (signal) {
    case SIGINT: return "SIGINT (Ctrl-C)";
    case SIGTERM: return "SIGTERM";
    case SIGHUP: return "SIGHUP (the terminal is gone)";
    case SIGUSR1: return "SIGUSR1";
    case SIGUSR2: return "SIGUSR2";
    case SIGXCPU: return "SIGXCPU (the limit of CPU time)";
    default: return "a signal";
  }
}

FailedWrites::FailedWrites() {
  static_assert(failing_writes.size() == std::tuple_size_v<decltype(before_)>);
  for (std::size_t i = 0; i < failing_writes.size(); ++i) before_[i] = handle_by_default(failing_writes[i], pass_over);
}

FailedWrites::~FailedWrites() {
  for (std::size_t i = 0; i < failing_writes.size(); ++i) sigaction(failing_writes[i], &before_[i], nullptr);
}

void outlive_readers() {
  (void)handle_by_default(SIGPIPE, pass_over);
}

void outlive_sigterm() {
  (void)handle_by_default(SIGTERM, pass_over);
}

void keep_announcements() {
  for (const int signal : announcing) (void)handle_by_default(signal, keep);
}

SignalWatch::SignalWatch(std::function<void(int signal)> on_signal) {
  int ends[2];
  if (pipe_end.load() >= 0 || pipe2(ends, O_CLOEXEC) != 0) return;
  state_ = std::make_unique<State>();
  state_->on_signal = std::move(on_signal);
  state_->read_end = ends[0];
  state_->write_end = ends[1];
  state_->thread = std::thread([state = state_.get()] { state->listen(); });
  pipe_end = ends[1];
  slurm_repeats_sigterm = environment_variable("SLURM_JOB_ID").has_value();
  const auto ask = action_of(on_any_signal);
  for (std::size_t i = 0; i < asking.size(); ++i) {
    sigaction(asking[i], nullptr, &state_->before[i]);
    if (state_->before[i].sa_handler != SIG_IGN) sigaction(asking[i], &ask, nullptr);
  }
  if (const auto byte = static_cast<char>(early_signal.exchange(0)); byte != 0) (void)!write(ends[1], &byte, 1);
}

SignalWatch::~SignalWatch() {
  if (!state_) return;
  for (std::size_t i = 0; i < asking.size(); ++i) sigaction(asking[i], &state_->before[i], nullptr);
  pipe_end = -1;
  const char end = 0;
  (void)!write(state_->write_end, &end, 1);
  state_->thread.join();
  close(state_->read_end);
  close(state_->write_end);
}

}  // namespace troupe
