// The profile of a stage: which work of which thread is measured, from when to when (trainer.profiler = operators and
// trace). What it gives is written by operator_profiler.hpp and trace.hpp.
//
// A process has one at a time, since LibTorch's observers of operators belong to the process. Nothing is installed but
// while it records.
#pragma once

#include "troupe/modules/options/trainer_options.hpp"
#include "troupe/runtime/profile/lane.hpp"

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

class MemoryWatch;

struct ProfileSetup {
  Profiler kind = Profiler::trace;
  std::optional<BatchRange> batches;  ///< of training; nothing: the whole stage
  std::string stage = "fit";
  int64_t rank = 0;                   ///< the first of this process
  std::filesystem::path folder = {};  ///< where the files go
  int64_t most_spans = 2'000'000;
};

/// What is to be said when a profile has ended.
struct ProfileEnd {
  std::string text;  ///< the table of operators, or where the trace is; lines ended by '\n'
  std::vector<std::string> warnings;
};

class Profiling {
 public:
  /// Null if there is nothing to record (off and simple, or `batches` in a stage that is no fit), and while another run
  /// of this process is profiled.
  static std::shared_ptr<Profiling> start(ProfileSetup setup);
  /// Whether there is something to record.
  static bool is_wanted(const ProfileSetup& setup);
  ~Profiling();
  Profiling(const Profiling&) = delete;
  Profiling& operator=(const Profiling&) = delete;

  /// The one of this process, or null. Any thread.
  static std::shared_ptr<Profiling> current();
  static bool is_there() { return state_.load(std::memory_order_relaxed) != 0; }
  /// Whether spans are kept, too, not sums of operators alone.
  static bool is_traced() { return state_.load(std::memory_order_relaxed) == traced; }
  static bool is_recording() { return state_.load(std::memory_order_relaxed) > waiting; }

  const ProfileSetup& setup() const { return setup_; }
  /// Around each batch, by the first worker of the process; `number` counts batches of training over the whole run.
  /// What begins or ends with it begins or ends there.
  void before_training_batch(int64_t number);
  void after_training_batch(int64_t number);
  /// A warning that is due, once; else empty.
  std::string take_warning();

  /// Stops, and writes the files. The last call.
  ProfileEnd end();

  /// For those who write: any thread.
  std::vector<std::shared_ptr<const Lane>> lanes() const;
  int64_t batches() const { return batches_; }           ///< of training that were recorded
  int64_t begun_at() const { return begun_at_; }         ///< nanoseconds of the steady clock; 0: it never began
  double seconds() const;                                ///< that were recorded
  int64_t peak_bytes(bool of_device) const;              ///< of what was allocated while it was recorded
  bool is_full() const { return budget_.is_used_up(); }  ///< it has ended for want of room

  /// For threads: see thread_lane.hpp.
  static uint64_t number() { return number_.load(std::memory_order_acquire); }
  std::shared_ptr<Lane> add_lane(std::string name);
  const std::shared_ptr<MemoryWatch>& memory() const { return memory_; }

 private:
  enum State { off, waiting, summed, traced };

  explicit Profiling(ProfileSetup setup);
  void begin_recording();
  void end_recording();
  void leave();

  static inline std::atomic<int> state_ = off;
  static inline std::atomic<uint64_t> number_ = 0;

  const ProfileSetup setup_;
  SpanBudget budget_;
  std::shared_ptr<MemoryWatch> memory_;
  mutable std::mutex mutex_;  // of the lanes, and of the begin and the end
  std::vector<std::shared_ptr<Lane>> lanes_;
  uint64_t callback_ = 0;
  bool is_recording_ = false, has_warned_ = false, is_over_ = false;
  std::atomic<int64_t> batches_ = 0, begun_at_ = 0, ended_at_ = 0, latest_batch_ = -1;
};

}  // namespace troupe
