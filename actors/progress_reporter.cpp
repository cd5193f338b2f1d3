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

double rate_of(int64_t batches, double seconds) {
  return seconds > 0 ? static_cast<double>(batches) / seconds : 0;
}

}  // namespace

bool ProgressReporter::is_due() {
  if (!is_on()) return false;
  const auto now = Clock::now();
  if (now - last_ < progress_interval) return false;
  last_ = now;
  return true;
}

const RunEta& ProgressReporter::estimate(Replica& replica, std::optional<int64_t> total_batches) {
  if (!eta_) eta_.emplace(replica.options(), 0, total_batches);
  eta_->trained(seconds(), replica.progress());
  return *eta_;
}

// The rate is that of the last batches; at the epoch's end, that of the epoch.
void ProgressReporter::show_training(Replica& replica, std::optional<int64_t> total_batches, bool is_final) {
  const auto& options = replica.options();
  const RunEta& eta = estimate(replica, total_batches);
  ProgressState state;
  state.activity = Activity::train;
  state.epoch = replica.progress().epoch;
  if (options.max_epochs.value_or(-1) >= 0) state.max_epochs = options.max_epochs;
  state.batch = replica.progress().batch_idx;
  state.total_batches = total_batches;
  state.elapsed = std::chrono::duration<double>(Clock::now() - training_began_).count();
  state.batches_per_second = rate_of(state.batch - first_batch_, state.elapsed);
  if (!is_final) state.batches_per_second = eta.batches_per_second().value_or(state.batches_per_second);
  state.run_seconds_left = eta.seconds_left();
  show(replica, std::move(state), is_final);
}

void ProgressReporter::show_evaluation(Replica& replica, const EvaluateCommand& command, const EvaluationFeed& feed,
                                       bool is_final) {
  ProgressState state;
  state.activity = activity_of(command);
  state.batch = feed.batches_done();
  if (feed.total_batches() >= 0) state.total_batches = feed.total_batches();
  state.elapsed = std::chrono::duration<double>(Clock::now() - feed.began()).count();
  state.batches_per_second = rate_of(state.batch, state.elapsed);
  if (is_final && eta_ && !command.is_sanity_check) eta_->validated(state.elapsed, replica.progress());
  if (!is_on()) return;
  show(replica, std::move(state), is_final);
}

void ProgressReporter::show(Replica& replica, ProgressState state, bool is_final) {
  if (!replica.sanity_checking()) {
    for (const auto& [name, value] : replica.shown_metrics()) state.metrics.emplace_back(name, value);
  }
  if (is_watched()) live_->show(state);
  if (has_bar_) tell(self_, progress_, ShowProgress{std::move(state), is_final});
}

}  // namespace troupe::cast
