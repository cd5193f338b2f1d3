#include "troupe/actors/recorder.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"

#include <chrono>

namespace troupe::cast {

namespace {

constexpr auto look_interval = std::chrono::milliseconds(500);

struct RecorderState {
  static constexpr const char* name = "recorder";

  ActorRef coordinator, progress;
  std::shared_ptr<RunFiles> files;
  std::shared_ptr<Pulse> pulse;
};

using RecorderSelf = caf::stateful_actor<RecorderState>;

template <class Action>
void with_files(RecorderSelf* self, Action action) {
  RecorderState& state = state_of(self);
  const Working working(*state.pulse);
  action(*state.files);
  const auto problem = state.files->take_problem();
  if (!problem.empty()) tell(self, state.progress, PrintLine{std::string(warning_mark) + problem, true});
}

caf::behavior recorder(RecorderSelf* self, const ActorRef& coordinator, const ActorRef& progress,
                       const std::shared_ptr<RunFiles>& files, const Stage& stage,
                       const std::shared_ptr<Pulse>& pulse) {
  enter_thread(pulse);
  name_lane(pulse->who);
  auto& state = state_of(self);
  state.coordinator = coordinator;
  state.progress = progress;
  state.files = files;
  state.pulse = pulse;
  end_with(self, coordinator);
  with_files(self, [&](RunFiles& all) { all.begin_stage(stage); });
  tell_later(self, look_interval, Tick{});
  return Handlers{
      [self](const MetricsWritten& written) {
        with_files(self, [&](RunFiles& all) {
          for (const auto& row : written.rows) all.take(row.record, row.time);
        });
        tell(self, sender_of(self), MetricsTaken{});
      },
      [self](const RunNews& news) { with_files(self, [&](RunFiles& all) { all.take(news); }); },
      [self](Tick) {
        with_files(self, [](RunFiles& all) { all.write_if_due(); });
        tell_later(self, look_interval, Tick{});
      },
      [self](const EndRecorder& end) {
        with_files(self, [&](RunFiles& all) { all.end_stage(end.status, end.message); });
        tell(self, state_of(self).coordinator, RecorderDrained{std::move(state_of(self).files)});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_recorder(caf::actor_system& system, ActorRef coordinator, ActorRef progress,
                        std::shared_ptr<RunFiles> files, Stage stage, std::shared_ptr<Pulse> pulse) {
  return spawn_threaded(system, recorder, std::move(coordinator), std::move(progress), std::move(files), stage,
                        std::move(pulse));
}

}  // namespace troupe::cast
