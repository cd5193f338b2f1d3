#include "troupe/actors/watchdog.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/process/thread_stacks.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace troupe::cast {

namespace {

struct Watched {
  std::weak_ptr<Pulse> pulse;
  int64_t rank = 0;
  HangRule hangs;
  SilenceRule silence;
};

struct WatchdogState {
  static constexpr const char* name = "watchdog";

  WatchdogSetup setup;
  std::vector<Watched> watched;
  ActorRef asker;
  std::weak_ptr<Pulse> waits;  // whose long wait is asked about
};

using WatchdogSelf = caf::stateful_actor<WatchdogState>;

// To the millisecond: a learned limit is a measured time.
std::string seconds_of(HangLimits::Duration time) {
  const auto rounded = std::chrono::round<std::chrono::milliseconds>(time);
  return double_to_text(std::chrono::duration<double>(rounded).count()) + " s";
}

Failure failure_of(const Pulse& pulse, int64_t rank) {
  Failure failure;
  failure.rank = rank;
  failure.stage = to_string(static_cast<Stage>(pulse.stage));
  failure.hook = pulse.place();
  failure.epoch = pulse.epoch;
  failure.batch_idx = pulse.batch;
  return failure;
}

// Which option has set the limit.
std::string reason_of(HangLimits::Duration limit, const HangLimits& limits) {
  if (limit >= limits.longest) return " (trainer.watchdog_timeout)";
  if (limit <= limits.shortest) return " in a step (trainer.watchdog_floor)";
  return " in a step, which is " + double_to_text(limits.factor) +
         " times the longest one before (trainer.watchdog_factor)";
}

void tell_hang(WatchdogSelf* self, const Watched& each, const Pulse& pulse, HangLimits::Duration limit) {
  const auto& setup = state_of(self).setup;
  if (setup.shows_stacks)
    tell(self, setup.progress, PrintLine{"warning: somebody hangs; the threads are at\n" + thread_stacks(), true});
  Failure failure = failure_of(pulse, each.rank);
  failure.message = pulse.who + " has made no progress for " + seconds_of(limit) + reason_of(limit, setup.limits);
  tell(self, setup.coordinator, Failed{std::move(failure), false, /*hangs=*/true});
}

std::optional<int64_t> operation_of(const Pulse& pulse) {
  if (pulse.collectives <= 0) return std::nullopt;
  return pulse.collective_begun_at;
}

// One question at a time for all who wait.
void ask_processes(WatchdogSelf* self, Watched& each, const std::shared_ptr<Pulse>& pulse) {
  auto& state = state_of(self);
  if (!state.asker || !state.waits.expired()) return;
  if (!each.silence.look(operation_of(*pulse), time_of(self))) return;
  state.waits = pulse;
  tell(self, state.asker, AskProcesses{std::chrono::duration_cast<std::chrono::milliseconds>(each.silence.patience())});
}

// Whether somebody hangs; the coordinator knows it then.
bool look(WatchdogSelf* self) {
  auto& watched = state_of(self).watched;
  std::erase_if(watched, [](const Watched& each) { return each.pulse.expired(); });
  for (auto& each : watched) {
    const auto pulse = each.pulse.lock();
    if (!pulse) continue;
    if (const auto limit = each.hangs.look(glance_at(*pulse), time_of(self))) {
      tell_hang(self, each, *pulse, *limit);
      return true;
    }
    ask_processes(self, each, pulse);
  }
  return false;
}

// Those who wait for the ones that are gone end by the failure itself.
void take_answer(WatchdogSelf* self, const ProcessesAnswered& answer) {
  auto& state = state_of(self);
  const auto pulse = std::exchange(state.waits, {}).lock();
  const auto found =
      std::ranges::find_if(state.watched, [&](const Watched& each) { return pulse && each.pulse.lock() == pulse; });
  if (found == state.watched.end()) return;
  if (!found->silence.answered(answer.missing.empty(), time_of(self)) || pulse->collectives <= 0) return;
  Failure failure = failure_of(*pulse, found->rank);
  failure.message =
      answer.missing + " has not answered twice, while " + pulse->who +
      " waits for it in a collective operation (trainer.watchdog_floor = " + seconds_of(state.setup.limits.shortest) +
      ")";
  state.asker = nullptr;
  tell(self, state.setup.coordinator, Failed{std::move(failure)});
}

caf::behavior asker(caf::event_based_actor* self, const ActorRef& watchdog, const AbsentProcesses& absent) {
  end_with(self, watchdog);
  return Handlers{
      [self, absent](const AskProcesses& ask) {
        if (const auto who = sender_of(self)) tell(self, who, ProcessesAnswered{absent(ask.patience)});
      },
  };
}

caf::behavior watchdog(WatchdogSelf* self, const WatchdogSetup& setup) {
  auto& state = state_of(self);
  state.setup = setup;
  end_with(self, setup.coordinator);
  if (setup.absent_processes && setup.limits.factor > 0) {
    state.asker = spawn_threaded(self->system(), asker, ref_to(self), setup.absent_processes);
  }
  const auto tick = setup.limits.tick();
  tell_later(self, tick, Tick{});
  return HandlersInLane{
      "watchdog",
      [self](const WatchPulse& message) {
        const auto& limits = state_of(self).setup.limits;
        state_of(self).watched.push_back({message.pulse, message.rank, HangRule(limits), SilenceRule(limits)});
      },
      [self, tick](Tick) {
        if (!look(self)) tell_later(self, tick, Tick{});
      },
      [self](const ProcessesAnswered& answer) { take_answer(self, answer); },
      [self](Drain) { self->quit(); },
  };
}

}  // namespace

ActorRef spawn_watchdog(caf::actor_system& system, WatchdogSetup setup) {
  return spawn_shared(system, watchdog, std::move(setup));
}

}  // namespace troupe::cast
