// Which rank do the others wait for?
#pragma once

#include "troupe/runtime/distributed/peers.hpp"
#include "troupe/runtime/process/pulse.hpp"

#include <chrono>
#include <cstdint>
#include <string>

namespace troupe {

/// Compares the ranks' own times for a step: from one to the next, less the time from a rank's last collective
/// operation to its end. It costs two looks at the clock for each of them, and one small message in each interval.
/// NCCL's operations are not seen.
class Stragglers {
 public:
  /// `pulse`: of the worker. `ratio`: times the median rank's, from which on a rank is named; 0: never.
  Stragglers(Peers& peers, const Pulse& pulse, double ratio,
             std::chrono::milliseconds interval = std::chrono::seconds(10))
      : peers_(peers), pulse_(pulse), ratio_(ratio), interval_(interval) {}

  /// Training begins, or goes on after something else.
  void resume();
  void pause();
  /// A step is over. True on rank zero when it is time to compare, once.
  bool count_step();
  /// Collective; a new measurement begins. On rank zero a sentence about the slowest rank, if there is one to name
  /// that was not named in the last minute.
  std::string compare();

 private:
  using Clock = std::chrono::steady_clock;
  std::chrono::nanoseconds own_time() const;

  Peers& peers_;
  const Pulse& pulse_;
  const double ratio_;
  const std::chrono::milliseconds interval_;
  bool runs_ = false;
  bool asked_ = false;
  Clock::time_point since_{};                     // of the stretch that runs
  int64_t waited_before_ = 0;                     // the pulse's at its beginning
  std::chrono::nanoseconds own_{0}, elapsed_{0};  // of those before
  int64_t steps_ = 0;
  Clock::time_point named_at_{};
  std::size_t named_ = 0;
};

}  // namespace troupe
