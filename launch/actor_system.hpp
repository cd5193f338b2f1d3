// The threads of a Trainer's actors, and the run that is in progress.
#pragma once

#include "troupe/actors/coordinator.hpp"

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// Made, and destroyed, by the thread that runs stages; `stop` is called by any.
class ActorSystem {
 public:
  // What CAF keeps for the main thread is destroyed before a Trainer that is static, and CAF uses it to end: so it
  // keeps nothing there, and ends on another thread.
  ActorSystem();
  ~ActorSystem();
  ActorSystem(const ActorSystem&) = delete;
  ActorSystem& operator=(const ActorSystem&) = delete;

  caf::actor_system& actors() { return *actors_; }
  /// Asks the run in progress to stop, if there is one. Whoever asks between `begin_run` and `set`, when the run's
  /// threads may be at work already, is heard by `set`.
  void stop(const std::string& reason, bool interrupt, int signal = 0);
  /// A run is about to start.
  void begin_run();
  /// The run that is in progress from now on; null: none. It must outlive that.
  void set(const cast::Run* current);
  /// Whether all actors have come to their end within that time. Those that make a batch end after it.
  bool has_ended_within(double seconds);

 private:
  caf::actor_system_config config_;
  std::unique_ptr<caf::actor_system> actors_;
  std::mutex mutex_;
  const cast::Run* run_ = nullptr;
  std::optional<std::vector<StopRequest>> asked_;  // while a run starts
};

}  // namespace troupe
