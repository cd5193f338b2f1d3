// What a worker shows of its progress: at most ten states a second, and one at the end of a segment.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/evaluation_feed.hpp"
#include "troupe/runtime/loops/script.hpp"
#include "troupe/runtime/replica/replica.hpp"
#include "troupe/runtime/terminal/progress_line.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

namespace troupe::cast {

class ProgressReporter {
 public:
  ProgressReporter() = default;
  /// Of `self`, to the progress actor. One that is off is never due.
  ProgressReporter(caf::event_based_actor* self, ActorRef progress, bool is_on)
      : self_(self), progress_(std::move(progress)), is_on_(is_on) {}

  bool is_on() const { return is_on_; }
  /// Whether it is time for a state, which counts as shown then.
  bool is_due();
  /// The time of training counts from here.
  void begin_training() { training_began_ = Clock::now(); }
  /// `total_batches`: of the epoch, if it is known. `is_final` ends the line, as below.
  void show_training(Replica& replica, std::optional<int64_t> total_batches, bool is_final);
  void show_evaluation(Replica& replica, const EvaluateCommand& command, const EvaluationFeed& feed, bool is_final);

 private:
  using Clock = std::chrono::steady_clock;

  void show(Replica& replica, ProgressState state, Clock::time_point since, bool is_final);

  caf::event_based_actor* self_ = nullptr;
  ActorRef progress_;
  bool is_on_ = false;
  Clock::time_point last_{};
  Clock::time_point training_began_{};
};

}  // namespace troupe::cast
