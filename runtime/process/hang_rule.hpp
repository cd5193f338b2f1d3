// When a member of the cast is taken to hang: the rule, without threads and clocks.
#pragma once

#include "troupe/modules/stage.hpp"
#include "troupe/runtime/process/pulse.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace troupe {

/// What the options say, as durations.
struct HangLimits {
  using Duration = std::chrono::steady_clock::duration;

  Duration longest{0};   ///< watchdog_timeout: the limit of all that is not a step, and of steps before it is learned
  Duration shortest{0};  ///< watchdog_floor: a learned limit is not below it
  double factor = 0;     ///< watchdog_factor: times the longest step seen; 0: nothing is learned

  /// How often to look. What happens between two looks is known no better than that, so a step counts as long as this
  /// at least.
  std::chrono::milliseconds tick() const;
};

/// A thread at one look.
struct Glance {
  enum class Kind {
    rest,       ///< waits for messages, for somebody who is watched too, in a collective operation, or in prepare_data
    elsewhere,  ///< works on something that is no step
    step,       ///< within a batch, in what every batch does
  };
  Kind kind = Kind::rest;
  Stage stage = Stage::fit;
  uint64_t beats = 0;
  uint64_t steps = 0;

  bool operator==(const Glance&) const = default;
};

/// A batch's first and last hook are elsewhere: callbacks do there what they do now and then, such as drawing samples
/// every thousand batches. So is write_prediction, which waits for a disk.
Glance glance_at(const Pulse& pulse);

/// Of one pulse. Steps are alike, so a step that takes many times as long as the longest before hangs; all else (setup,
/// hooks between batches, snapshots, files, data) comes seldom or waits for other machines, and has `longest`.
/// Training, validation, test and prediction are learned apart. The first steps are not learned from: much is made on
/// first use.
///
/// Time in which nobody looked does not count: who was stopped, or had no core, stopped or starved those that it
/// watches as well.
class HangRule {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = HangLimits::Duration;

  explicit HangRule(const HangLimits& limits) : limits_(limits), tick_(limits.tick()) {}

  /// The limit that is over, if the thread hangs.
  std::optional<Duration> look(const Glance& seen, Clock::time_point now);
  /// Of what such a thread does.
  Duration limit(const Glance& seen) const;

 private:
  struct Learned {
    uint64_t steps = 0;
    Duration longest{0};
  };
  Learned& of(Stage stage) { return learned_[static_cast<std::size_t>(stage)]; }

  HangLimits limits_;
  Duration tick_;
  std::array<Learned, 4> learned_{};  // by stage
  Glance last_;
  Duration silence_{0};  // counted since it was last seen to have gone on
  std::optional<Clock::time_point> looked_;
};

/// When a thread that waits in a collective operation asks whether all processes are there. One that computes, or waits
/// for its data, answers: its own watchdog judges it. One that is stopped, gone or cut off does not.
class SilenceRule {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = HangLimits::Duration;

  explicit SilenceRule(const HangLimits& limits) : shortest_(limits.shortest), next_(limits.shortest) {}

  /// Whether to ask now. `operation`: tells the latest operation in flight from the ones before; nothing: there is
  /// none.
  bool look(std::optional<int64_t> operation, Clock::time_point now);
  /// What the answer to the latest question was; whether somebody has been silent twice, and counts as gone.
  bool answered(bool all_are_there, Clock::time_point now);
  /// How long an answer may take.
  Duration patience() const { return shortest_ / 2; }

 private:
  Duration shortest_, next_;
  std::optional<int64_t> operation_;
  Clock::time_point since_{};  // the operation was seen first, or all have answered
  bool asks_ = false;          // a question is open
  int silent_ = 0;             // times in a row that somebody has not answered
};

}  // namespace troupe
