// Actors of the user's own that watch a run and may steer it.
//
//     trainer.add_actor("watcher", [](caf::event_based_actor* self, troupe::RunHandle run) -> caf::behavior {
//       return {[=](const troupe::TrainBatchEnded& event) {
//         if (event.metrics.at("train_loss") < 0.05) run.request_stop("the loss is low enough");
//       }};
//     });
//
// Each has a thread of its own, so it may block. It gets one event at a time; while it is busy, an usher keeps up to
// `capacity` events for it and follows its policy beyond that, so a slow actor slows nobody (protocol rule P5). What
// was dropped is counted and reported when the run ends. One that throws has ended, which is a warning.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/events.hpp"
#include "troupe/actors/outlet.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace troupe {

/// What an usher does with an event that finds its actor's queue full.
enum class WhenFull {
  drop_oldest,  ///< lose the event that waits longest
  keep_latest,  ///< of each kind of event, keep only the newest
};

struct ActorOptions {
  /// Events that wait for the actor at most; at least 1.
  int64_t capacity = 64;
  WhenFull when_full = WhenFull::drop_oldest;
  /// How long the end of a run waits for the actor to take the events that are left, in seconds; what it has not taken
  /// by then counts as dropped.
  double patience = 2.0;
};

/// How a callback actor talks back. A cheap value; requests after the run's end are ignored.
class RunHandle {
 public:
  RunHandle() = default;
  RunHandle(cast::ActorRef coordinator, cast::Outlet logger)
      : coordinator_(std::move(coordinator)), logger_(std::move(logger)) {}

  /// The run ends at the next batch boundary, once min_epochs and min_steps are reached.
  void request_stop(std::string reason) const;
  /// A checkpoint is written after the batch at hand, as `requested-step=N.safetensors`.
  void request_checkpoint() const;
  /// Hands a value to the sinks, as step `step` of `name`.
  void log(const std::string& name, double value, int64_t step) const;

 private:
  cast::ActorRef coordinator_;
  cast::Outlet logger_;
};

using ActorBehavior = std::function<caf::behavior(caf::event_based_actor* self, RunHandle run)>;

/// A callback actor as registered with a Trainer.
struct CallbackActor {
  std::string name;
  ActorBehavior behavior;
  ActorOptions options;
};

namespace cast {

/// What an usher reports when it is drained.
struct UsherDrained {
  std::string name;
  int64_t dropped = 0;
};

/// Spawns the actor and its usher; events go to the outlet.
Outlet spawn_callback_actor(caf::actor_system& system, ActorRef coordinator, const RunHandle& run,
                            const CallbackActor& actor);

}  // namespace cast

}  // namespace troupe

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(troupe::cast::UsherDrained)
