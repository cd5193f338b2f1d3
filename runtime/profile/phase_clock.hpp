// Where the time of a worker's thread goes.
//
// A training has few kinds of work, phases, and a thread is always in exactly one of them: the clock attributes the
// time between two marks to the phase that ran, so that all phases together are the whole, without gaps. It measures
// always: a mark is one look at the processor's time stamp counter, which takes less time than
// std::chrono::steady_clock::now(), and two lines of cache; a training step has about five of them without hooks.
//
// It is the host's time. On a GPU kernels run behind the calls that start them, so what a phase shows there is the time
// of those calls, and the waiting is in whichever phase reads something back ("logging", "reduction", a hook).
#pragma once

#include "troupe/modules/hooks.hpp"
#include "troupe/runtime/report/phase_report.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace troupe {

/// The fixed phases. Hooks have phases of their own.
enum class Phase : uint32_t {
  rest,
  start_up,           ///< from the worker's beginning to the first batch of the stage, hooks left out
  between_epochs,     ///< from the end of an epoch's last batch to the next epoch's batches being asked for
  waiting_for_data,   ///< a batch was asked for and is not there
  waiting_for_ranks,  ///< for what other ranks say of the next batch, or of what the run is to do
  transfer,           ///< to the device, or to the type of the parameters
  forward,            ///< training_step, validation_step and their siblings
  backward,
  reduction,   ///< of gradients, as far as it was not hidden behind the backward pass
  optimizer,   ///< zeroing, unscaling and clipping gradients, the step, schedulers
  logging,     ///< handing values over to the sinks and the bar, which may read them back from a device
  checkpoint,  ///< copying the state, and waiting for an earlier one to be written
  validation,  ///< all of it, within fit
};
inline constexpr uint32_t phase_count = static_cast<uint32_t>(Phase::validation) + 1;
/// "waiting for data".
std::string to_string(Phase phase);

/// A phase's number: first the fixed ones, then the hooks of each owner.
using PhaseId = uint32_t;
constexpr PhaseId id_of(Phase phase) {
  return static_cast<PhaseId>(phase);
}

/// Whose hook it is: the module's, the data module's, or that of callback `first_callback_owner` + i.
using HookOwner = uint32_t;
inline constexpr HookOwner module_owner = 0, data_owner = 1, first_callback_owner = 2;
/// Hooks of callbacks that a module does not have.
enum class CallbackHook : uint32_t { on_sanity_check_start, on_sanity_check_end, on_save_checkpoint };
inline constexpr uint32_t hooks_of_owner = hook_count + static_cast<uint32_t>(CallbackHook::on_save_checkpoint) + 1;
constexpr PhaseId id_of(HookOwner owner, Hook hook) {
  return phase_count + owner * hooks_of_owner + static_cast<uint32_t>(hook);
}
constexpr PhaseId id_of(HookOwner owner, CallbackHook hook) {
  return phase_count + owner * hooks_of_owner + static_cast<uint32_t>(hook_count) + static_cast<uint32_t>(hook);
}

/// Ticks of the processor's clock, which runs at one speed and is the same on all of its cores.
inline uint64_t processor_ticks() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks = 0;
  asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

/// Of one thread, which alone uses it. Tests give it the ticks (functions that end in _at).
class PhaseClock {
 public:
  explicit PhaseClock(Phase first = Phase::start_up) : PhaseClock(first, processor_ticks()) {}
  PhaseClock(Phase first, uint64_t now);
  PhaseClock(const PhaseClock&) = delete;
  PhaseClock& operator=(const PhaseClock&) = delete;
  /// Takes itself from the thread, if it is still there.
  ~PhaseClock();

  /// The calling thread's, or null: marks then do nothing.
  static PhaseClock* of_thread() { return of_thread_; }
  /// From now on the calling thread's. Null: none.
  static void set_of_thread(PhaseClock* clock) { of_thread_ = clock; }

  /// The module first ("": its hooks have their bare names), then the data module, then each callback.
  void set_owners(std::vector<std::string> names);

  // --- Marks ---

  /// A new time of `phase` begins, the one that ran has ended.
  void enter(PhaseId phase) { enter_at(phase, processor_ticks()); }
  void enter_at(PhaseId phase, uint64_t now) {
    resume_at(phase, now);
    at_->running = 0;
    ++at_->count;
  }
  /// `phase` goes on where something else has interrupted it.
  void resume(PhaseId phase) { resume_at(phase, processor_ticks()); }
  void resume_at(PhaseId phase, uint64_t now) {
    take_time(now);
    current_ = phase < size_ ? phase : id_of(Phase::rest);
    at_ = &slots_[base_ + current_];
  }
  /// The time since the latest mark was one of `phase`, as is known only now; the phase that runs goes on.
  void give_to(Phase phase) { give_to_at(phase, processor_ticks()); }
  void give_to_at(Phase phase, uint64_t now);
  PhaseId current() const { return current_; }

  /// A validation within fit is one phase, whose parts are counted by themselves. Not nested.
  void begin_validation() { begin_validation_at(processor_ticks()); }
  void begin_validation_at(uint64_t now);
  void end_validation() { end_validation_at(processor_ticks()); }
  void end_validation_at(uint64_t now);
  bool is_validating() const { return base_ > 0; }

  // --- Reports ---

  /// True if `interval` has passed since the last time, by the latest mark: it costs a comparison.
  bool is_due(std::chrono::milliseconds interval) { return since_ >= due_ && is_due_now(interval); }
  /// `seconds`, `phases` and `parts_of_validation`. PhaseTable::large: hooks below 0.1 % are one phase, "other hooks".
  PhaseReport report(PhaseTable table) const;
  PhaseReport report_at(uint64_t now, double seconds_per_tick, PhaseTable table) const;

 private:
  struct Slot {
    uint64_t ticks = 0, running = 0, longest = 0;  // running: of the time at hand
    int64_t count = 0;
  };

  // Cores may differ by a few ticks.
  static uint64_t ticks_between(uint64_t since, uint64_t now) { return now > since ? now - since : 0; }
  void take_time(uint64_t now) {
    const uint64_t took = ticks_between(since_, now);
    at_->ticks += took;
    at_->running += took;
    if (at_->running > at_->longest) at_->longest = at_->running;
    since_ = now;
  }
  void add_validation(std::vector<Slot>& slots, uint64_t now) const;
  bool is_due_now(std::chrono::milliseconds interval);
  double seconds_per_tick(uint64_t now) const;
  std::string name_of(PhaseId phase) const;
  std::vector<PhaseTime> times(const Slot* slots, double seconds_per_tick, double small) const;

  static thread_local constinit PhaseClock* of_thread_;

  std::vector<Slot> slots_;  // `size_` of training or of a stage by itself, then as many of validations
  uint32_t size_ = 0;
  uint32_t base_ = 0;  // where those begin that are counted in
  PhaseId current_ = 0;
  Slot* at_ = nullptr;  // of the current one
  uint64_t since_;      // the latest mark

  std::vector<std::string> owners_;
  PhaseId before_validation_ = 0;
  uint64_t validation_since_ = 0;
  const uint64_t began_ticks_;
  const std::chrono::steady_clock::time_point began_;
  uint64_t due_ = 0;
  std::chrono::steady_clock::time_point reported_;
};

// --- Marks on the calling thread's clock, if it has one ---

inline void enter_phase(PhaseId phase) {
  if (PhaseClock* clock = PhaseClock::of_thread()) clock->enter(phase);
}
inline void enter_phase(Phase phase) {
  enter_phase(id_of(phase));
}
inline void resume_phase(Phase phase) {
  if (PhaseClock* clock = PhaseClock::of_thread()) clock->resume(id_of(phase));
}

/// The time of a scope, within the phase that ran before and goes on behind it.
class PhaseScope {
 public:
  explicit PhaseScope(Phase phase) : PhaseScope(id_of(phase)) {}
  explicit PhaseScope(PhaseId phase) : clock_(PhaseClock::of_thread()) {
    if (!clock_) return;
    before_ = clock_->current();
    clock_->enter(phase);
  }
  ~PhaseScope() {
    if (clock_) clock_->resume(before_);
  }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  PhaseClock* clock_;
  PhaseId before_ = 0;
};

}  // namespace troupe
