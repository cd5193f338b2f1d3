#include "troupe/launch/signals.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

namespace troupe {

namespace {

constexpr std::array watched = {SIGINT, SIGTERM, SIGUSR1};

// A handler may do little more than write to a pipe; -1: nobody watches.
std::atomic<int> pipe_end{-1};

void on_any_signal(int signal) {
  const auto byte = static_cast<char>(signal);
  if (const int end = pipe_end.load(); end >= 0) (void)!write(end, &byte, 1);
  std::signal(signal, SIG_DFL);
}

}  // namespace

struct SignalWatch::State {
  std::function<void(int)> on_signal;
  int read_end = -1, write_end = -1;
  std::array<struct sigaction, watched.size()> before{};
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
    case SIGUSR1: return "SIGUSR1";
    default: return "a signal";
  }
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
  for (std::size_t i = 0; i < watched.size(); ++i) {
    struct sigaction action {};
    action.sa_handler = on_any_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    sigaction(watched[i], nullptr, &state_->before[i]);
    if (state_->before[i].sa_handler != SIG_IGN) sigaction(watched[i], &action, nullptr);
  }
}

SignalWatch::~SignalWatch() {
  if (!state_) return;
  for (std::size_t i = 0; i < watched.size(); ++i) sigaction(watched[i], &state_->before[i], nullptr);
  pipe_end = -1;
  const char end = 0;
  (void)!write(state_->write_end, &end, 1);
  state_->thread.join();
  close(state_->read_end);
  close(state_->write_end);
}

}  // namespace troupe
