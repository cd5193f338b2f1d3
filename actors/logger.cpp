#include "troupe/actors/logger.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/base/unix_seconds.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

namespace troupe::cast {

namespace {

// How long a record may wait in a sink's buffer before readers (a running TensorBoard) can see it.
constexpr auto flush_interval = std::chrono::milliseconds(2000);

struct LoggerState {
  static constexpr const char* name = "logger";

  ActorRef coordinator, checkpointer, recorder;
  std::vector<std::shared_ptr<Sink>> sinks;
  std::shared_ptr<InFlight> in_flight;
  std::shared_ptr<Pulse> pulse;
  std::vector<MetricsWritten::Row> unrecorded;  // that the recorder has not got
  PhaseTime work{"logger", 0, 0, 0};
  bool is_dirty = false, recorder_is_behind = false;

  // Nobody waits for one that is gone.
  ~LoggerState() {
    if (in_flight) in_flight->close();
  }
};

// Adds the time of a scope.
class WorkTime {
 public:
  explicit WorkTime(PhaseTime& work) : work_(work) {}
  ~WorkTime() {
    const double took = std::chrono::duration<double>(Clock::now() - began_).count();
    work_.add({"", took, 1, took});
  }
  WorkTime(const WorkTime&) = delete;
  WorkTime& operator=(const WorkTime&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  PhaseTime& work_;
  const Clock::time_point began_ = Clock::now();
};

using LoggerSelf = caf::stateful_actor<LoggerState>;

// What a sink throws ends the run, and the sink gets nothing more; the others hear how the run has ended.
template <class Action>
void for_each_sink(LoggerSelf* self, Action action) {
  LoggerState& state = state_of(self);
  const Working working(*state.pulse);
  const WorkTime time(state.work);
  std::erase_if(state.sinks, [&](const std::shared_ptr<Sink>& sink) {
    Failure failure;
    const Sink& its_type = *sink;
    const TracedPart part(typeid(its_type));
    failure.message = text_thrown_by([&] { action(*sink); });
    if (failure.message.empty()) return false;
    failure.hook = "logger";
    (void)text_thrown_by([&] { failure.hook += " " + sink->name(); });
    tell(self, state.coordinator, Failed{std::move(failure)});
    return true;
  });
}

void tell_recorder(LoggerSelf* self) {
  LoggerState& state = state_of(self);
  if (state.unrecorded.empty()) return;
  state.recorder_is_behind = true;
  tell(self, state.recorder, MetricsWritten{std::exchange(state.unrecorded, {})});
}

void flush(LoggerSelf* self) {
  LoggerState& state = state_of(self);
  if (std::exchange(state.is_dirty, false)) for_each_sink(self, [](Sink& sink) { sink.flush(); });
  if (!state.recorder_is_behind) tell_recorder(self);
}

template <class Row>
void leave_out_every_second(std::vector<Row>& rows) {
  const std::size_t kept = (rows.size() + 1) / 2;
  for (std::size_t i = 1; i < kept; ++i) rows[i] = std::move(rows[2 * i]);
  rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(kept), rows.end());
}

void keep_for_recorder(LoggerSelf* self, Record& record) {
  LoggerState& state = state_of(self);
  if (!state.recorder) return;
  if (auto* scalars = std::get_if<ScalarsRecord>(&record)) {
    auto& rows = state.unrecorded;
    rows.push_back({std::move(*scalars), unix_seconds()});
    if (rows.size() > recorder_limit) leave_out_every_second(rows);
  }
  if (auto* model = std::get_if<ModelRecord>(&record)) tell(self, state.recorder, RunNews{.model = std::move(*model)});
}

caf::behavior logger(LoggerSelf* self, const ActorRef& coordinator, const ActorRef& checkpointer,
                     const ActorRef& recorder, const std::vector<std::shared_ptr<Sink>>& sinks,
                     const std::shared_ptr<InFlight>& in_flight, const std::shared_ptr<Pulse>& pulse) {
  enter_thread(pulse);
  name_lane(pulse->who);
  state_of(self).pulse = pulse;
  state_of(self).coordinator = coordinator;
  state_of(self).checkpointer = checkpointer;
  state_of(self).recorder = recorder;
  state_of(self).sinks = sinks;
  state_of(self).in_flight = in_flight;
  end_with(self, coordinator);
  tell_later(self, flush_interval, Tick{});
  return Handlers{
      [self](WriteRecord& message) {
        state_of(self).in_flight->remove();
        const auto* call = std::get_if<SinkCall>(&message.record);
        for_each_sink(self, [&](Sink& sink) { call ? call->call(sink) : sink.write(message.record); });
        state_of(self).is_dirty = true;
        keep_for_recorder(self, message.record);
      },
      [self](SaveSnapshot& message) {
        flush(self);
        tell(self, state_of(self).checkpointer, std::move(message));
      },
      [self](Tick) {
        flush(self);
        tell_later(self, flush_interval, Tick{});
      },
      [self](MetricsTaken) { state_of(self).recorder_is_behind = false; },
      [self](Drain) {
        state_of(self).is_dirty = true;
        flush(self);
        tell_recorder(self);
        tell(self, state_of(self).checkpointer, Drain{});
        tell(self, state_of(self).coordinator, Drained{state_of(self).work});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_logger(caf::actor_system& system, ActorRef coordinator, ActorRef checkpointer, ActorRef recorder,
                      std::vector<std::shared_ptr<Sink>> sinks, std::shared_ptr<InFlight> in_flight,
                      std::shared_ptr<Pulse> pulse) {
  return spawn_threaded(system, logger, std::move(coordinator), std::move(checkpointer), std::move(recorder),
                        std::move(sinks), std::move(in_flight), std::move(pulse));
}

}  // namespace troupe::cast
