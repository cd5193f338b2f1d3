// A callback actor (modules/callback_actor.hpp) that is written against CAF, for who needs more of it than events.
// Programs that include this header depend on the version of CAF.
//
//     trainer.add_actor("watcher", troupe::CafBehavior{[](caf::event_based_actor* self, troupe::RunHandle run) {
//       return caf::behavior{[=](const troupe::ValidationEnded& event) { ... }};
//     }});
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/events.hpp"
#include "troupe/modules/callback_actor.hpp"

#include <functional>
#include <stdexcept>

namespace troupe {

/// Taken for an ActorBehavior. `start` is called once for each stage, in the actor; events that its behavior does not
/// name are dropped.
struct CafBehavior {
  std::function<caf::behavior(caf::event_based_actor* self, RunHandle run)> start;

  void operator()(const Event&, RunHandle&) const {
    throw std::logic_error("a CafBehavior is started, not called with events");
  }
};

}  // namespace troupe
