#include "troupe/actors/recorder.hpp"

#include "troupe/actors/handlers.hpp"
#include "troupe/actors/messages.hpp"
#include "troupe/runtime/live/live_state.hpp"

#include <chrono>
#include <utility>

namespace troupe::cast {

namespace {

constexpr auto look_interval = std::chrono::milliseconds(500);

struct RecorderState {
  static constexpr const char* name = "recorder";

  ActorRef coordinator, progress;
  std::shared_ptr<RunFiles> files;
  std::shared_ptr<Pulse> pulse;
  std::shared_ptr<live::LiveServer> live;
  bool has_news = true;  // for who looks from outside
};

using RecorderSelf = caf::stateful_actor<RecorderState>;

template <class Action>
void with_files(RecorderSelf* self, Action action) {
  RecorderState& state = state_of(self);
  const Working working(*state.pulse);
  action(*state.files);
  state.has_news = true;
  const auto problem = state.files->take_problem();
  if (!problem.empty()) tell(self, state.progress, PrintLine{std::string(warning_mark) + problem, true});
}

void show(RecorderState& state) {
  if (!state.live || !state.live->wants_state()) return;
  const bool has_news = std::exchange(state.has_news, false);
  if (!has_news && !state.live->wants_state_now()) return;
  state.live->show(live::state_of(state.files->card(), state.files->curves()));
}

caf::behavior recorder(RecorderSelf* self, const ActorRef& coordinator, const ActorRef& progress,
                       const std::shared_ptr<RunFiles>& files, const Stage& stage, const std::shared_ptr<Pulse>& pulse,
                       const std::shared_ptr<live::LiveServer>& live) {
  enter_thread(pulse);
  name_lane(pulse->who);
  auto& state = state_of(self);
  state.coordinator = coordinator;
  state.progress = progress;
  state.files = files;
  state.pulse = pulse;
  state.live = live;
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
        const bool has_news = state_of(self).has_news;
        with_files(self, [](RunFiles& all) { all.write_if_due(); });
        state_of(self).has_news = has_news;
        show(state_of(self));
        tell_later(self, look_interval, Tick{});
      },
      [self](const EndRecorder& end) {
        with_files(self, [&](RunFiles& all) { all.end_stage(end.status, end.message); });
        show(state_of(self));
        tell(self, state_of(self).coordinator, RecorderDrained{std::move(state_of(self).files)});
        self->quit();
      },
  };
}

}  // namespace

ActorRef spawn_recorder(caf::actor_system& system, ActorRef coordinator, ActorRef progress,
                        std::shared_ptr<RunFiles> files, Stage stage, std::shared_ptr<Pulse> pulse,
                        std::shared_ptr<live::LiveServer> live) {
  return spawn_threaded(system, recorder, std::move(coordinator), std::move(progress), std::move(files), stage,
                        std::move(pulse), std::move(live));
}

}  // namespace troupe::cast
