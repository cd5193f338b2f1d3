#include "troupe/actors/logger.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"

#include <chrono>

namespace troupe::cast {

namespace {

// How long a record may wait in a sink's buffer before readers (a running TensorBoard) can see it.
constexpr auto flush_interval = std::chrono::milliseconds(2000);

struct LoggerState {
  static constexpr const char* name = "logger";

  ActorRef coordinator, checkpointer;
  std::vector<std::shared_ptr<Sink>> sinks;
  std::shared_ptr<InFlight> in_flight;
  std::shared_ptr<Pulse> pulse;
  bool is_dirty = false;
  bool has_failed = false;

  // Nobody waits for one that is gone.
  ~LoggerState() {
    if (in_flight) in_flight->close();
  }
};

using LoggerSelf = caf::stateful_actor<LoggerState>;

// What a sink throws ends the run once; later records are dropped.
template <class Action>
void for_each_sink(LoggerSelf* self, Action action) {
  LoggerState& state = state_of(self);
  const Working working(*state.pulse);
  for (const auto& sink : state.sinks) {
    if (state.has_failed) return;
    const Sink& its_type = *sink;
    const TracedPart part(typeid(its_type));
    Failure failure;
    failure.message = text_thrown_by([&] { action(*sink); });
    if (failure.message.empty()) continue;
    state.has_failed = true;
    failure.hook = "logger";
    (void)text_thrown_by([&] { failure.hook += " " + sink->name(); });
    tell(self, state.coordinator, Failed{std::move(failure)});
  }
}

void flush(LoggerSelf* self) {
  if (!state_of(self).is_dirty) return;
  state_of(self).is_dirty = false;
  for_each_sink(self, [](Sink& sink) { sink.flush(); });
}

caf::behavior logger(LoggerSelf* self, const ActorRef& coordinator, const ActorRef& checkpointer,
                     const std::vector<std::shared_ptr<Sink>>& sinks, const std::shared_ptr<InFlight>& in_flight,
                     const std::shared_ptr<Pulse>& pulse) {
  enter_thread(pulse);
  name_lane(pulse->who);
  state_of(self).pulse = pulse;
  state_of(self).coordinator = coordinator;
  state_of(self).checkpointer = checkpointer;
  state_of(self).sinks = sinks;
  state_of(self).in_flight = in_flight;
  end_with(self, coordinator);
  tell_later(self, flush_interval, Tick{});
  return Handlers{
      [self](const WriteRecord& message) {
        state_of(self).in_flight->remove();
        const auto* call = std::get_if<SinkCall>(&message.record);
        for_each_sink(self, [&](Sink& sink) { call ? call->call(sink) : sink.write(message.record); });
        state_of(self).is_dirty = true;
      },
      [self](SaveSnapshot& message) {
        flush(self);
        tell(self, state_of(self).checkpointer, std::move(message));
      },
      [self](Tick) {
        flush(self);
        tell_later(self, flush_interval, Tick{});
      },
      [self](Drain) {
        state_of(self).is_dirty = true;
        flush(self);
        tell(self, state_of(self).checkpointer, Drain{});
        tell(self, state_of(self).coordinator, Drained{});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_logger(caf::actor_system& system, ActorRef coordinator, ActorRef checkpointer,
                      std::vector<std::shared_ptr<Sink>> sinks, std::shared_ptr<InFlight> in_flight,
                      std::shared_ptr<Pulse> pulse) {
  return spawn_threaded(system, logger, std::move(coordinator), std::move(checkpointer), std::move(sinks),
                        std::move(in_flight), std::move(pulse));
}

}  // namespace troupe::cast
