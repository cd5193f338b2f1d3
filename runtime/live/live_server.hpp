// Serves those who look at a run while it goes on: viewers that are attached to it by the socket in its folder, and
// Prometheus.
//
// All of it happens on a thread of its own, and whatever they do, the run does not wait. What the run shows lies in a
// bounded queue; a viewer that does not read gets states and batches only when there is room again, and is dropped when
// it has taken nothing for some time; one that sends what is no request is dropped, too. Each of these is a warning of
// the run's, once. While nobody is attached nothing is made for anybody: the `wants_` functions say so, at the cost of
// reading an atomic number.
#pragma once

#include "troupe/modules/callback_actor.hpp"
#include "troupe/runtime/live/live_message.hpp"
#include "troupe/runtime/process/pulse.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace troupe::live {

class LiveServer {
 public:
  struct Options {
    std::filesystem::path folder = {};         ///< that gets the socket; empty: nobody can attach
    bool permits_control = false;              ///< to viewers that ask for it
    std::optional<int64_t> metrics_port = {};  ///< of 127.0.0.1; 0: any free one; nothing: no endpoint
    std::string run = {};                      ///< "digits/version_3"
    Stage stage = Stage::fit;
    std::chrono::milliseconds patience{5000};        ///< with a viewer that takes nothing
    std::chrono::milliseconds patience_at_end{300};  ///< with viewers that have not taken the last words
    std::size_t most_viewers = 16;
  };

  /// Throws UsageError for a port that cannot be had. A socket that cannot be made is no error: socket_problem().
  explicit LiveServer(Options options);
  ~LiveServer();
  LiveServer(const LiveServer&) = delete;
  LiveServer& operator=(const LiveServer&) = delete;

  /// Why nobody can attach, in one sentence; empty: they can, or were not to.
  const std::string& socket_problem() const { return socket_problem_; }
  /// "http://127.0.0.1:9100/metrics", or empty.
  std::string metrics_address() const;
  /// 0 without an endpoint.
  int metrics_port() const { return metrics_port_; }

  /// The run goes on from here: who takes the requests, who the warnings (any thread), and the pulses of the workers.
  void begin(RunHandle control, std::function<void(const std::string&)> warn,
             std::vector<std::shared_ptr<const Pulse>> workers);
  /// The last words are sent, and the socket, the endpoint and the thread end. Doing it twice does nothing more.
  void end();

  // By any thread of the run:

  bool wants_state() const { return wants_state_.load(std::memory_order_relaxed); }
  /// Somebody has none yet, whether something is new or not.
  bool wants_state_now() const { return wants_state_now_.load(std::memory_order_relaxed); }
  bool wants_progress() const { return wants_progress_.load(std::memory_order_relaxed); }
  bool wants_batches() const { return wants_batches_.load(std::memory_order_relaxed); }
  /// `workers` of it are added here.
  void show(State state);
  void show(ProgressState state);
  void publish(Event event);

 private:
  class Thread;

  std::atomic<bool> wants_state_ = false, wants_state_now_ = false, wants_progress_ = false, wants_batches_ = false,
                    has_viewers_ = false;
  std::string socket_problem_;
  int metrics_port_ = 0;
  std::unique_ptr<Thread> thread_;
};

}  // namespace troupe::live
