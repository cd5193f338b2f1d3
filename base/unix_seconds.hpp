// The time of day, as files and metadata have it.
#pragma once

#include <chrono>

namespace troupe {

/// Seconds since 1970, by the system's clock.
inline double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace troupe
