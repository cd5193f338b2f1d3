// The end of a run (P7): workers, then ushers, whose actors may log to the last, then writers, then the recorder, then
// the console, each when those before have come to their end or are gone.
#include "troupe/actors/coordinator_state.hpp"

#include <chrono>
#include <utility>

namespace troupe::cast {

namespace {

constexpr auto patience_with_recorder = std::chrono::seconds(30);

// Batches were dealt out to the workers one by one.
EpochOutputs joined_predictions(const std::vector<WorkerEnded>& workers) {
  EpochOutputs joined;
  const auto loaders = workers.front().predictions.by_loader().size();
  for (std::size_t loader = 0; loader < loaders; ++loader) {
    bool found = true;
    for (std::size_t i = 0; found; ++i) {
      found = false;
      for (const auto& each : workers) {
        const auto& lists = each.predictions.by_loader();
        if (loader >= lists.size() || i >= lists[loader].size()) continue;
        joined.add(loader, lists[loader][i]);
        found = true;
      }
    }
  }
  return joined;
}

}  // namespace

void CoordinatorState::end_workers() {
  if (ending_) return go_on_ending();  // a failure may be what it waits for
  ending_ = Role::worker;
  note_lost_validations();
  tell_workers_urgently(EndWorker{result_.failure});
  members_.for_each(Role::validator,
                    [&](const Member& member) { tell_urgently(self_, member.actor, EndWorker{result_.failure}); });
  go_on_ending();
}

void CoordinatorState::take_worker(WorkerEnded& ended) {
  for (const auto& problem : ended.problems) note("warning: at the end of the run, " + problem);
  if (ended.worker >= 0) ended_[static_cast<std::size_t>(ended.worker)] = std::move(ended);
  sender_has_ended();
}

void CoordinatorState::sender_has_ended() {
  if (Member* member = members_.find(sender_of(self_))) member->has_ended = true;
  go_on_ending();
}

void CoordinatorState::go_on_ending() {
  // A checkpoint that cannot be written is a failure still, and what the sinks are told of the end is final.
  const bool is_settled = saves_in_flight_ == 0 || result_.failure;
  const bool workers_have_ended = members_.have_ended(Role::worker) && members_.have_ended(Role::validator);
  if (ending_ == Role::worker && workers_have_ended && is_settled) {
    close_books();
    ending_ = Role::usher;
    members_.for_each(Role::usher, [&](const Member& usher) { tell(self_, usher.actor, Drain{}); });
  }
  if (ending_ == Role::usher && members_.have_ended(Role::usher)) {
    ending_ = Role::writer;
    drain_writers();
  }
  if (ending_ == Role::writer && members_.have_ended(Role::writer)) {
    for (const auto& [name, count] : result_.dropped) {
      if (count > 0)
        note("warning: the actor " + name + " was too slow for " + std::to_string(count) +
             " events, which were dropped");
    }
    show_phases();
    if (setup_->warnings) setup_->warnings->set_run(nullptr);
    ending_ = Role::recorder;
    end_monitors();
    drain_recorder();
  }
  if (ending_ == Role::recorder && members_.have_ended(Role::recorder)) {
    ending_ = Role::console;
    members_.for_each(Role::console, [&](const Member& console) { tell(self_, console.actor, Drain{}); });
  }
  if (ending_ == Role::console && members_.have_ended(Role::console)) finish();
}

// The whole table for who asked for it. Rank zero's first worker speaks for all.
void CoordinatorState::show_phases() {
  const auto& options = *state().options;
  if (options.profiler != Profiler::simple || !writes()) return;
  note("trainer.profiler = simple\n" + to_text(result_.phases, PhaseTable::all));
}

// What they report may still be a failure of the run.
void CoordinatorState::drain_writers() {
  const Member* first = members_.find(logger_.to);
  tell(self_, first && !first->has_ended ? logger_.to : checkpointer_, Drain{});  // the logger passes it on
}

void CoordinatorState::drain_recorder() {
  const auto message = !is_over() ? "" : result_.failure ? result_.failure->describe() : result_.stop_reason;
  tell_recorder({.progress = state().progress, .metrics = state().metrics, .phases = result_.phases});
  if (!recorder_) return;
  // Behind the warnings, which come to it through the console.
  const Member* console = members_.find(progress_);
  tell(self_, console && !console->has_ended ? progress_ : recorder_,
       EndRecorder{is_over() ? result_.status() : RunStatus::running, message});
  tell_later(self_, patience_with_recorder, RecorderIsLate{});
}

// Its disk hangs: nothing of the run depends on it.
void CoordinatorState::go_on_without_recorder() {
  if (ending_ != Role::recorder) return;
  members_.for_each(Role::recorder, [](Member& recorder) { recorder.has_ended = true; });
  setup_->files = nullptr;  // it has them still
  note("warning: run.json and report.html take too long to write, and are left as they are");
  result_.left_behind = true;
  go_on_ending();
}

void CoordinatorState::end_monitors() {
  if (!writes() || std::exchange(monitors_have_ended_, true)) return;
  for (const auto& monitor : state().monitors) {
    const std::string problem =
        text_thrown_by([&] { state().ask(*monitor, "run_ended", [&] { monitor->run_ended(); }); });
    if (!problem.empty()) fail_here(state().place(), problem);
  }
}

// The results, which the workers have handed over.
void CoordinatorState::take_results() {
  result_.module = std::move(ended_.front().module);
  result_.curves = std::move(ended_.front().curves);
  result_.bar_metrics = std::move(ended_.front().bar_metrics);
  result_.predictions = ended_.size() > 1 ? joined_predictions(ended_) : std::move(ended_.front().predictions);
  result_.queue = std::move(ended_.front().queue);
  result_.captured = std::move(ended_.front().captured);
}

void CoordinatorState::close_books() {
  if (ended_.empty()) return;
  if (!workers_hang_) take_results();
  if (state().stop) {
    result_.stop_reason = state().stop->reason;
    result_.was_interrupted = state().stop->interrupt;
    result_.signal = state().stop->signal;
    note("stopped: " + state().stop->reason);
  }
  if (writes() && is_over()) {
    StageEndedRecord ended{state().stage, result_.status(), state().progress.log_step, state().metrics,
                           result_.stop_reason};
    if (result_.failure) ended.message = result_.failure->describe();
    logger_.deliver_at_once(self_, WriteRecord{std::move(ended)});
    result_.sinks_know = result_.status();
  }
  publish(RunEnded{state().progress, state().metrics, result_.stop_reason, result_.failure.has_value()});
  if (state().skipped_saves > 0) {
    note(std::to_string(state().skipped_saves) +
         " checkpoints were left out while others were written (trainer.checkpoint_backpressure = skip)");
  }
}

void CoordinatorState::finish() {
  ending_ = Role::watchdog;
  end_monitors();
  result_.progress = state().progress;
  result_.metrics = std::move(state().metrics);
  result_.evaluation = std::move(state().evaluation);
  result_.skipped_saves = state().skipped_saves;
  if (!result_.files) result_.files = setup_->files;  // of a recorder that is gone
  if (watchdog_) tell(self_, watchdog_, Drain{});
  std::exchange(promise_, nullptr)->set_value(std::move(result_));
  self_->quit();
}

}  // namespace troupe::cast
