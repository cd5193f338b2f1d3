// What a worker shows of its progress: at most ten states a second, and one at the end of a segment; and when it ends.
#pragma once

#include "troupe/actors/caf.hpp"
#include "troupe/actors/evaluation_feed.hpp"
#include "troupe/runtime/live/live_server.hpp"
#include "troupe/runtime/loops/script.hpp"
#include "troupe/runtime/replica/replica.hpp"
#include "troupe/runtime/terminal/progress_line.hpp"
#include "troupe/runtime/terminal/run_eta.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace troupe::cast {

class ProgressReporter {
 public:
  ProgressReporter() = default;
  /// Of `self`, to the progress actor if `has_bar`, and to viewers if `live`, which may be null, has some. One that is
  /// off is never due.
  ProgressReporter(caf::event_based_actor* self, ActorRef progress, bool has_bar,
                   std::shared_ptr<live::LiveServer> live)
      : self_(self), progress_(std::move(progress)), has_bar_(has_bar), live_(std::move(live)) {}

  bool is_on() const { return has_bar_ || is_watched(); }
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

  bool is_watched() const { return live_ && live_->wants_progress(); }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - began_).count(); }
  void show(Replica& replica, ProgressState state, bool is_final);

  caf::event_based_actor* self_ = nullptr;
  ActorRef progress_;
  bool has_bar_ = false;
  std::shared_ptr<live::LiveServer> live_;
  Clock::time_point last_{};
  Clock::time_point began_ = Clock::now();
  Clock::time_point training_began_{};
  int64_t first_batch_ = 0;
  std::optional<RunEta> eta_;
};

}  // namespace troupe::cast
