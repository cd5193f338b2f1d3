#include "troupe/actors/progress_reporter.hpp"

#include "troupe/actors/messages.hpp"

namespace troupe::cast {

namespace {

// How often a state of progress is worth a message.
constexpr auto progress_interval = std::chrono::milliseconds(100);

Activity activity_of(const EvaluateCommand& command) {
  if (command.is_sanity_check) return Activity::sanity_check;
  if (command.stage == Stage::test) return Activity::test;
  return command.stage == Stage::predict ? Activity::predict : Activity::validate;
}

}  // namespace

bool ProgressReporter::is_due() {
  if (!is_on_) return false;
  const auto now = Clock::now();
  if (now - last_ < progress_interval) return false;
  last_ = now;
  return true;
}

void ProgressReporter::show_training(Replica& replica, std::optional<int64_t> total_batches, bool is_final) {
  const auto& options = replica.options();
  ProgressState state;
  state.activity = Activity::train;
  state.epoch = replica.progress().epoch;
  if (options.max_epochs.value_or(-1) >= 0) state.max_epochs = options.max_epochs;
  state.batch = replica.progress().batch_idx;
  state.total_batches = total_batches;
  show(replica, std::move(state), training_began_, is_final);
}

void ProgressReporter::show_evaluation(Replica& replica, const EvaluateCommand& command, const EvaluationFeed& feed,
                                       bool is_final) {
  ProgressState state;
  state.activity = activity_of(command);
  state.batch = feed.batches_done();
  if (feed.total_batches() >= 0) state.total_batches = feed.total_batches();
  show(replica, std::move(state), feed.began(), is_final);
}

void ProgressReporter::show(Replica& replica, ProgressState state, Clock::time_point since, bool is_final) {
  state.elapsed = std::chrono::duration<double>(Clock::now() - since).count();
  if (state.elapsed > 0) state.batches_per_second = static_cast<double>(state.batch) / state.elapsed;
  if (!replica.sanity_checking()) {
    for (const auto& [name, value] : replica.shown_metrics()) state.metrics.emplace_back(name, value);
  }
  tell(self_, progress_, ShowProgress{std::move(state), is_final});
}

}  // namespace troupe::cast
