// The watchdog: notices members of the cast that hang.
//
// receives  WatchPulse   from the coordinator, the workers and the loaders
//           Drain        from the coordinator: quit
// sends     Failed       to the coordinator, once: who, where, and that it will not answer any more
//           PrintLine    to the progress actor: where all threads are
//
// It looks at pulses (runtime/process/pulse.hpp) a few times in its timeout. One that works and has not beaten in that
// time hangs, unless it takes part in a collective operation, which has a time limit of its own.
#pragma once

#include "troupe/actors/caf.hpp"

#include <chrono>

namespace troupe::cast {

struct WatchdogSetup {
  ActorRef coordinator, progress;
  std::chrono::milliseconds timeout{0};
  bool shows_stacks = false;
};

ActorRef spawn_watchdog(caf::actor_system& system, WatchdogSetup setup);

}  // namespace troupe::cast
