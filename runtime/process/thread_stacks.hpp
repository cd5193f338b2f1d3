// Where all threads of the process are.
#pragma once

#include <string>

namespace troupe {

/// A paragraph for each thread: its name, and the functions that it is in, the innermost first, as far as the program
/// and its libraries export their names (-rdynamic). It interrupts the threads by a signal of its own, and calls that
/// a signal ends early (sleep, poll) end early. For a process that is about to end; one call at a time.
std::string thread_stacks();

}  // namespace troupe
