// The watchdog: notices members of the cast that hang.
//
// receives  WatchPulse   from the coordinator, the workers and the loaders
//           Drain        from the coordinator: quit
// sends     Failed       to the coordinator, once: who, where, and that it will not answer any more
//           PrintLine    to the progress actor: where all threads are
//
// It looks at pulses (runtime/process/pulse.hpp) a few times within the limits that runtime/process/hang_rule.hpp has
// for them. In a collective operation, which has a time limit of its own, a member is not judged: but when the wait is
// long the other processes are asked, on a thread of its own, and one that does not answer ends the run.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/runtime/process/hang_rule.hpp"

#include <chrono>
#include <functional>
#include <string>

namespace troupe::cast {

/// Who of the other processes does not answer within `patience`: "process 1 on node7"; empty: all answer.
using AbsentProcesses = std::function<std::string(std::chrono::milliseconds patience)>;

struct WatchdogSetup {
  ActorRef coordinator, progress;
  HangLimits limits;
  bool shows_stacks = false;
  AbsentProcesses absent_processes = {};  ///< empty: nobody is asked
};

ActorRef spawn_watchdog(caf::actor_system& system, WatchdogSetup setup);

}  // namespace troupe::cast
