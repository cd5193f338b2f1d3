#include "troupe/actors/watchdog.hpp"

#include "troupe/actors/messages.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/process/thread_stacks.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace troupe::cast {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto shortest_tick = std::chrono::milliseconds(5), longest_tick = std::chrono::milliseconds(5000);
constexpr int ticks_in_timeout = 10;

struct Watched {
  std::weak_ptr<Pulse> pulse;
  int64_t rank = 0;
  uint64_t beats = 0;
  Clock::time_point since;  // when it was last seen at rest, or to have gone on
};

struct WatchdogState {
  static constexpr const char* name = "watchdog";

  WatchdogSetup setup;
  std::vector<Watched> watched;
};

using WatchdogSelf = caf::stateful_actor<WatchdogState>;

bool is_excused(const Pulse& pulse) {
  const bool prepares_data = pulse.part.empty() && pulse.hook == Hook::prepare_data && pulse.place() == "prepare_data";
  return !pulse.works || pulse.waits || pulse.collectives > 0 || prepares_data;
}

Failure failure_of(const Pulse& pulse, int64_t rank, std::chrono::milliseconds timeout) {
  Failure failure;
  failure.rank = rank;
  failure.stage = to_string(static_cast<Stage>(pulse.stage));
  failure.hook = pulse.place();
  failure.epoch = pulse.epoch;
  failure.batch_idx = pulse.batch;
  failure.message = pulse.who + " has made no progress for " +
                    double_to_text(std::chrono::duration<double>(timeout).count()) + " s (trainer.watchdog_timeout)";
  return failure;
}

// Whether somebody hangs; the coordinator knows it then.
bool look(WatchdogSelf* self) {
  auto& [setup, watched] = state_of(self);
  const auto now = time_of(self);
  std::erase_if(watched, [](const Watched& each) { return each.pulse.expired(); });
  for (auto& each : watched) {
    const auto pulse = each.pulse.lock();
    if (!pulse) continue;
    if (is_excused(*pulse) || pulse->beats != each.beats) {
      each.beats = pulse->beats;
      each.since = now;
    } else if (now - each.since >= setup.timeout) {
      if (setup.shows_stacks)
        tell(self, setup.progress, PrintLine{"warning: somebody hangs; the threads are at\n" + thread_stacks(), true});
      tell(self, setup.coordinator, Failed{failure_of(*pulse, each.rank, setup.timeout), false, /*hangs=*/true});
      return true;
    }
  }
  return false;
}

caf::behavior watchdog(WatchdogSelf* self, const WatchdogSetup& setup) {
  state_of(self).setup = setup;
  end_with(self, setup.coordinator);
  const auto tick = std::clamp(setup.timeout / ticks_in_timeout, shortest_tick, longest_tick);
  tell_later(self, tick, Tick{});
  return {
      [self](const WatchPulse& message) {
        state_of(self).watched.push_back({message.pulse, message.rank, 0, time_of(self)});
      },
      [self, tick](Tick) {
        if (!look(self)) tell_later(self, tick, Tick{});
      },
      [self](Drain) { self->quit(); },
  };
}

}  // namespace

ActorRef spawn_watchdog(caf::actor_system& system, WatchdogSetup setup) {
  return spawn_shared(system, watchdog, std::move(setup));
}

}  // namespace troupe::cast
