// Actors of the user's own that watch a run and may steer it.
//
//     trainer.add_actor("watcher", troupe::on_events([](const troupe::TrainBatchEnded& event, troupe::RunHandle& run) {
//       if (event.metrics.at("train_loss") < 0.05) run.request_stop("the loss is low enough");
//     }));
//
// Each has a thread of its own, so it may block. It gets one event at a time; while it is busy, an usher keeps up to
// `capacity` events for it and follows its policy beyond that, so a slow actor slows nobody (protocol rule P5). What
// was dropped is counted and reported when the run ends. One that throws has ended, which is a warning.
#pragma once

#include "troupe/modules/events.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

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

/// How a callback actor talks back. A cheap value that may be copied to other threads; requests after the run's end are
/// ignored.
class RunHandle {
 public:
  /// The run's side of it.
  class Control {
   public:
    virtual ~Control() = default;
    virtual void request_stop(std::string reason) const = 0;
    virtual void request_checkpoint() const = 0;
    virtual void request_validation() const = 0;
    virtual void set_learning_rate(double lr) const = 0;
    virtual void log(const std::string& name, double value, int64_t step) const = 0;
  };

  RunHandle() = default;
  explicit RunHandle(std::shared_ptr<const Control> control) : control_(std::move(control)) {}

  /// The run ends at the next batch boundary, once min_epochs and min_steps are reached.
  void request_stop(std::string reason) const {
    if (control_) control_->request_stop(std::move(reason));
  }
  /// A checkpoint is written after the batch at hand, as `requested-step=N.safetensors`.
  void request_checkpoint() const {
    if (control_) control_->request_checkpoint();
  }
  /// A validation follows the batch at hand, in a fit that has one.
  void request_validation() const {
    if (control_) control_->request_validation();
  }
  /// All groups of all optimizers have this rate after the batch at hand, on all ranks; a scheduler goes on from it or
  /// sets its own with its next step. `lr` is finite and not negative.
  void set_learning_rate(double lr) const {
    if (control_) control_->set_learning_rate(lr);
  }
  /// Hands a value to the sinks, as step `step` of `name`.
  void log(const std::string& name, double value, int64_t step) const {
    if (control_) control_->log(name, value, step);
  }

 private:
  std::shared_ptr<const Control> control_;
};

/// Called on the actor's thread with each event. Every stage begins with a copy of what add_actor was given.
using ActorBehavior = std::function<void(const Event& event, RunHandle& run)>;

namespace detail {

template <class... Handlers>
struct EventHandlers : Handlers... {
  using Handlers::operator()...;
};

template <class Handler, class... Events>
constexpr bool takes_an_event(const std::variant<Events...>*) {
  return (std::is_invocable_v<Handler&, const Events&, RunHandle&> || ...);
}

}  // namespace detail

/// A behavior out of functions that each take a kind of event, and the run; events that no function takes pass by.
template <class... Handlers>
ActorBehavior on_events(Handlers... handlers) {
  static_assert((detail::takes_an_event<Handlers>(static_cast<const Event*>(nullptr)) && ...),
                "each function takes an event of modules/events.hpp by const reference, and a RunHandle");
  return
      [all = detail::EventHandlers<Handlers...>{std::move(handlers)...}](const Event& event, RunHandle& run) mutable {
        std::visit(
            [&]<class Concrete>(const Concrete& concrete) {
              if constexpr (std::is_invocable_v<decltype(all)&, const Concrete&, RunHandle&>) all(concrete, run);
            },
            event);
      };
}

/// A callback actor as registered with a Trainer.
struct CallbackActor {
  std::string name;
  ActorBehavior behavior;
  ActorOptions options;
};

}  // namespace troupe
