#include "troupe/actors/usher.hpp"

#include "troupe/actors/caf_callback_actor.hpp"
#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/base/number_text.hpp"

#include <caf/response_promise.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

namespace troupe {

namespace cast {

namespace {

class CastControl : public RunHandle::Control {
 public:
  CastControl(ActorRef coordinator, Outlet logger) : coordinator_(std::move(coordinator)), logger_(std::move(logger)) {}

  void request_stop(std::string reason) const override {
    tell_anonymously(coordinator_, StopRun{{std::move(reason), false}});
  }
  void request_checkpoint() const override { tell_anonymously(coordinator_, CheckpointRun{}); }
  void request_validation() const override { tell_anonymously(coordinator_, ValidateRun{}); }
  void set_learning_rate(double lr) const override {
    if (!std::isfinite(lr) || lr < 0) {
      throw UsageError("RunHandle::set_learning_rate(" + double_to_text(lr) + "): use a finite rate of 0 or more");
    }
    tell_anonymously(coordinator_, SetRate{lr});
  }
  void log(const std::string& name, double value, int64_t step) const override {
    if (!logger_.in_flight->add()) return;
    tell_anonymously(logger_.to, WriteRecord{ScalarsRecord{step, -1, {{name, value}}}});
  }

 private:
  ActorRef coordinator_;
  Outlet logger_;
};

// Events that may be on their way to an usher. It only queues them, so it is behind for moments at most.
constexpr int64_t usher_limit = 1024;

struct UsherState {
  std::string name;
  ActorOptions options;
  ActorRef coordinator, actor;
  std::shared_ptr<InFlight> in_flight;
  std::deque<Event> queue;
  bool is_busy = false;
  bool is_draining = false;
  bool is_alone = false;  // its actor has ended
  int64_t dropped = 0;
};

using Usher = caf::stateful_actor<UsherState>;

void make_room(UsherState& state, const Event& event) {
  if (static_cast<int64_t>(state.queue.size()) < state.options.capacity) return;
  auto victim = state.queue.begin();
  if (state.options.when_full == WhenFull::keep_latest) {
    const auto same = std::find_if(state.queue.begin(), state.queue.end(),
                                   [&](const Event& other) { return other.index() == event.index(); });
    if (same != state.queue.end()) victim = same;
  }
  state.queue.erase(victim);
  ++state.dropped;
}

void end(Usher* self) {
  UsherState& state = state_of(self);
  state.dropped += static_cast<int64_t>(state.queue.size()) + state.in_flight->refused();
  state.queue.clear();
  state.in_flight->close();
  tell(self, state.coordinator, UsherDrained{state.name, state.dropped});
  self->quit();
}

void hand_over(Usher* self);

void on_handled(Usher* self) {
  state_of(self).is_busy = false;
  hand_over(self);
}

// One event at a time: the next one when the actor has answered for this one.
void hand_over(Usher* self) {
  UsherState& state = state_of(self);
  if (state.is_busy) return;
  if (state.queue.empty()) {
    if (!state.is_draining) return;
    if (state.is_alone) return end(self);
    return end_anonymously(state.actor);  // when it has ended, what it threw last is known too
  }
  const Event event = std::move(state.queue.front());
  state.queue.pop_front();
  state.is_busy = true;
  std::visit(
      [&](const auto& concrete) {
        self->request(state.actor, caf::infinite, concrete)
            .then([self] { on_handled(self); }, [self](const caf::error&) { on_handled(self); });
      },
      event);
}

// What the actor throws ends it, which only watches, and not the run; but somebody has to know.
void on_actor_ended(Usher* self, const std::string& why) {
  UsherState& state = state_of(self);
  state.is_alone = true;
  state.queue.clear();
  const bool was_told_to = why == why_it_ended(caf::exit_reason::user_shutdown);
  if (!why.empty() && !was_told_to) tell(self, state.coordinator, ActorThrew{state.name, why});
  on_handled(self);
}

caf::behavior usher(Usher* self, const std::shared_ptr<UsherState>& setup) {
  state_of(self) = std::move(*setup);
  on_watched_end(self, [self](const caf::actor_addr& who, const std::string& why) {
    if (who == state_of(self).actor.address()) return on_actor_ended(self, why);
    self->quit();  // the run is gone
  });
  on_end_of(ref_to(self), [actor = state_of(self).actor](const std::string&) { end_anonymously(actor); });
  watch(self, state_of(self).actor);
  watch(self, state_of(self).coordinator);
  return HandlersInLane{
      "usher of " + state_of(self).name,
      [self](Publish& message) {
        UsherState& state = state_of(self);
        state.in_flight->remove();
        if (state.is_alone) return;
        make_room(state, message.event);
        state.queue.push_back(std::move(message.event));
        hand_over(self);
      },
      [self](Drain) {
        state_of(self).is_draining = true;
        const auto patience = std::chrono::milliseconds(static_cast<int64_t>(state_of(self).options.patience * 1000));
        tell_later(self, patience, Tick{});
        hand_over(self);
      },
      [self](Tick) { end(self); },
  };
}

// A handler for each kind of event, which the behavior gets as a variant again.
template <class... Events>
caf::behavior handlers_of(std::type_identity<std::variant<Events...>>, const ActorBehavior& behavior,
                          const RunHandle& run) {
  struct Called {
    ActorBehavior behavior;
    RunHandle run;
  };
  const auto called = std::make_shared<Called>(behavior, run);
  return Handlers{[called](Events& event) { called->behavior(Event(std::move(event)), called->run); }...};
}

caf::behavior user_actor(caf::event_based_actor* self, const std::string& name, const ActorBehavior& behavior,
                         const RunHandle& run) {
  name_lane("actor " + name);
  self->set_default_handler(caf::drop);  // events that the behavior does not name
  if (const auto* of_caf = behavior.target<CafBehavior>()) return of_caf->start(self, run);
  return handlers_of(std::type_identity<Event>(), behavior, run);
}

}  // namespace

RunHandle make_run_handle(ActorRef coordinator, Outlet logger) {
  return RunHandle(std::make_shared<CastControl>(std::move(coordinator), std::move(logger)));
}

Outlet spawn_callback_actor(caf::actor_system& system, ActorRef coordinator, const RunHandle& run,
                            const CallbackActor& actor) {
  auto state = std::make_shared<UsherState>();
  state->name = actor.name;
  state->options = actor.options;
  state->coordinator = std::move(coordinator);
  state->actor = spawn_threaded(system, user_actor, actor.name, actor.behavior, run);
  state->in_flight = std::make_shared<InFlight>(usher_limit);
  Outlet outlet{nullptr, state->in_flight};
  outlet.to = spawn_shared(system, usher, std::move(state));
  return outlet;
}

}  // namespace cast

}  // namespace troupe
