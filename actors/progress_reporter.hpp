// What a worker shows of its progress: at most ten states a second, and one at the end of a segment; and when it ends.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/evaluation_feed.hpp"
#include "troupe/runtime/loops/script.hpp"
#include "troupe/runtime/replica/replica.hpp"
#include "troupe/runtime/terminal/progress_line.hpp"
#include "troupe/runtime/terminal/run_eta.hpp"

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
  /// The time of an epoch counts from here, with `batch_idx` of its batches made before.
  void begin_training(int64_t batch_idx) {
    training_began_ = Clock::now();
    first_batch_ = batch_idx;
  }
  /// When the fit ends, as far as it is known now. `total_batches` as below.
  const RunEta& estimate(Replica& replica, std::optional<int64_t> total_batches);
  /// `total_batches`: of the epoch, if it is known. `is_final` ends the line, as below.
  void show_training(Replica& replica, std::optional<int64_t> total_batches, bool is_final);
  /// One that is off learns from the last of each loader how long validations take, and shows nothing.
  void show_evaluation(Replica& replica, const EvaluateCommand& command, const EvaluationFeed& feed, bool is_final);

 private:
  using Clock = std::chrono::steady_clock;

  double seconds() const { return std::chrono::duration<double>(Clock::now() - began_).count(); }
  void show(Replica& replica, ProgressState state, bool is_final);

  caf::event_based_actor* self_ = nullptr;
  ActorRef progress_;
  bool is_on_ = false;
  Clock::time_point last_{};
  Clock::time_point began_ = Clock::now();
  Clock::time_point training_began_{};
  int64_t first_batch_ = 0;
  std::optional<RunEta> eta_;
};

}  // namespace troupe::cast
