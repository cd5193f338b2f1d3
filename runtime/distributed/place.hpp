// Where a worker stands among all workers of a run.
#pragma once

#include <cstdint>

namespace troupe {

/// Ranks count devices: a process of N devices holds N of them, next to each other.
struct Place {
  int64_t global_rank = 0;  ///< among all workers of the run
  int64_t local_rank = 0;   ///< among the workers of this host
  int64_t world_size = 1;
  int64_t process = 0;     ///< of the worker, among all processes
  int64_t processes = 1;   ///< each with equally many workers
  int64_t in_process = 0;  ///< which of its process's workers

  bool operator==(const Place&) const = default;
};

}  // namespace troupe
