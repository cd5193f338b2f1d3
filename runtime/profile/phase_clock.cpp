#include "troupe/runtime/profile/phase_clock.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

namespace troupe {

namespace {

// How often the steady clock is asked whether a report is due, before the speed of the ticks is known.
constexpr uint64_t ticks_before_first_look = 1 << 24;

constexpr double small_share_of_hook = 0.001;

std::string callback_hook_name(uint32_t hook) {
  switch (static_cast<CallbackHook>(hook)) {
    case CallbackHook::on_sanity_check_start: return "on_sanity_check_start";
    case CallbackHook::on_sanity_check_end: return "on_sanity_check_end";
    case CallbackHook::on_save_checkpoint: return "on_save_checkpoint";
  }
  return "";
}

// "Timer", "Timer (2)".
void tell_apart(std::vector<std::string>& names) {
  std::map<std::string, int> seen;
  for (auto& name : names) {
    if (const int before = seen[name]++; before > 0) name += " (" + std::to_string(before + 1) + ")";
  }
}

}  // namespace

thread_local constinit PhaseClock* PhaseClock::of_thread_ = nullptr;

std::string to_string(Phase phase) {
  switch (phase) {
    case Phase::rest: return "rest";
    case Phase::start_up: return "start-up";
    case Phase::between_epochs: return "between epochs";
    case Phase::waiting_for_data: return "waiting for data";
    case Phase::waiting_for_ranks: return "waiting for other ranks";
    case Phase::transfer: return "transfer";
    case Phase::forward: return "forward";
    case Phase::backward: return "backward";
    case Phase::reduction: return "reduction";
    case Phase::optimizer: return "optimizer";
    case Phase::logging: return "logging";
    case Phase::checkpoint: return "checkpoint";
    case Phase::validation: return "validation";
  }
  return "";
}

PhaseClock::PhaseClock(Phase first, uint64_t now)
    : since_(now),
      began_ticks_(now),
      began_(std::chrono::steady_clock::now()),
      due_(now + ticks_before_first_look),
      reported_(began_) {
  set_owners({"", "the data module"});
  current_ = id_of(first);
  at_ = &slots_[current_];
  at_->count = 1;
}

PhaseClock::~PhaseClock() {
  if (of_thread_ == this) of_thread_ = nullptr;
}

// Owners that are there already keep their places.
void PhaseClock::set_owners(std::vector<std::string> names) {
  const auto size = phase_count + static_cast<uint32_t>(names.size()) * hooks_of_owner;
  std::vector<Slot> slots(std::size_t{2} * size);
  const auto kept = std::min(size, size_);
  for (const bool in_validation : {false, true}) {
    const auto from = slots_.begin() + (in_validation ? size_ : 0);
    std::copy(from, from + kept, slots.begin() + (in_validation ? size : 0));
  }
  slots_ = std::move(slots);
  if (base_ > 0) base_ = size;
  size_ = size;
  current_ = current_ < size ? current_ : id_of(Phase::rest);
  at_ = &slots_[base_ + current_];
  owners_ = std::move(names);
  tell_apart(owners_);
}

void PhaseClock::give_to_at(Phase phase, uint64_t now) {
  Slot* const current = std::exchange(at_, &slots_[base_ + id_of(phase)]);
  take_time(now);
  at_ = current;
}

void PhaseClock::begin_validation_at(uint64_t now) {
  before_validation_ = current_;
  enter_at(id_of(Phase::validation), now);
  validation_since_ = now;
  base_ = size_;
  enter_at(id_of(Phase::rest), now);
}

void PhaseClock::end_validation_at(uint64_t now) {
  if (!is_validating()) return;
  take_time(now);
  base_ = 0;
  add_validation(slots_, now);
  resume_at(before_validation_, now);
}

void PhaseClock::add_validation(std::vector<Slot>& slots, uint64_t now) const {
  const uint64_t took = ticks_between(validation_since_, now);
  Slot& whole = slots[id_of(Phase::validation)];
  whole.ticks += took;
  whole.longest = std::max(whole.longest, took);
}

bool PhaseClock::is_due_now(std::chrono::milliseconds interval) {
  const auto now = std::chrono::steady_clock::now();
  const double elapsed = std::chrono::duration<double>(now - reported_).count();
  const double wanted = std::chrono::duration<double>(interval).count();
  const bool is_due = elapsed >= wanted;
  if (is_due) reported_ = now;
  due_ = since_ + static_cast<uint64_t>((is_due ? wanted : wanted - elapsed) / seconds_per_tick(since_));
  return is_due;
}

double PhaseClock::seconds_per_tick(uint64_t now) const {
  if (now <= began_ticks_) return 1e-9;
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - began_;
  return elapsed.count() / static_cast<double>(now - began_ticks_);
}

PhaseReport PhaseClock::report(PhaseTable table) const {
  const uint64_t now = processor_ticks();
  return report_at(now, seconds_per_tick(now), table);
}

PhaseReport PhaseClock::report_at(uint64_t now, double seconds_per_tick, PhaseTable table) const {
  std::vector<Slot> slots = slots_;
  Slot& current = slots[base_ + current_];
  const uint64_t took = ticks_between(since_, now);
  current.ticks += took;
  current.longest = std::max(current.longest, current.running + took);
  if (is_validating()) add_validation(slots, now);
  PhaseReport report;
  report.seconds = static_cast<double>(ticks_between(began_ticks_, now)) * seconds_per_tick;
  const double small = table == PhaseTable::large ? small_share_of_hook * report.seconds : 0;
  report.phases = times(slots.data(), seconds_per_tick, small);
  report.parts_of_validation = times(slots.data() + size_, seconds_per_tick, small);
  return report;
}

// Hooks of less than `small` seconds are joined.
std::vector<PhaseTime> PhaseClock::times(const Slot* slots, double seconds_per_tick, double small) const {
  std::vector<PhaseTime> found;
  PhaseTime others{"other hooks"};
  for (PhaseId phase = 0; phase < size_; ++phase) {
    const Slot& slot = slots[phase];
    if (slot.count == 0 && slot.ticks == 0) continue;
    PhaseTime time{name_of(phase), static_cast<double>(slot.ticks) * seconds_per_tick, std::max<int64_t>(1, slot.count),
                   static_cast<double>(slot.longest) * seconds_per_tick};
    if (phase >= phase_count && time.seconds < small) {
      others.add(time);
    } else {
      found.push_back(std::move(time));
    }
  }
  if (others.count > 0) found.push_back(std::move(others));
  std::ranges::stable_sort(found, std::ranges::greater(), &PhaseTime::seconds);
  return found;
}

std::string PhaseClock::name_of(PhaseId phase) const {
  if (phase < phase_count) return to_string(static_cast<Phase>(phase));
  const uint32_t owner = (phase - phase_count) / hooks_of_owner;
  const uint32_t hook = (phase - phase_count) % hooks_of_owner;
  std::string name = owners_[owner].empty() ? "" : owners_[owner] + ".";
  return name + (hook < hook_count ? std::string(to_string(static_cast<Hook>(hook)))
                                   : callback_hook_name(hook - static_cast<uint32_t>(hook_count)));
}

}  // namespace troupe
