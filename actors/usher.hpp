// The usher of a callback actor: it keeps the actor's events while that one is busy, and hands them over one at a time.
//
// receives  Publish                       from the coordinator and the first worker
//           Drain                         when the run is over
// sends     the events, as requests       to its actor
//           UsherDrained, ActorThrew      to the coordinator
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/events.hpp"
#include "troupe/actors/outlet.hpp"
#include "troupe/modules/callback_actor.hpp"

#include <cstdint>
#include <string>

namespace troupe {

namespace cast {

/// How callback actors reach this run; records go to `logger`.
RunHandle make_run_handle(ActorRef coordinator, Outlet logger);

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
