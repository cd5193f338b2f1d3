// The progress actor: owns the terminal for the time of a run.
//
// receives  ShowProgress  from the worker, at most ten a second and one at each segment's end
//           PrintLine     a line of the module's (stdout), a warning or a note of the library's (stderr; warnings are
//                         yellow on a terminal)
//           PassOnWarnings, EndRecorder   from the coordinator, for the recorder
//           Drain         from the coordinator: end the bar, answer Drained, quit (P7)
//
// The bar is drawn on stderr, so that a program's own output on stdout stays clean.
#pragma once

#include "troupe/actors/caf.hpp"

namespace troupe::cast {

/// `quiet`: notes that are no warnings are not printed.
ActorRef spawn_progress(caf::actor_system& system, ActorRef coordinator, bool quiet);

}  // namespace troupe::cast
