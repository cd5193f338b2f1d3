#include "troupe/actors/run_result.hpp"

#include "troupe/base/exception_text.hpp"

namespace troupe::cast {

namespace {

// A thread that hangs may be in a sink that was told of an end.
bool sinks_are_owed_an_end(const RunResult& result) {
  return result.sinks_know == RunStatus::running || (result.sinks_know != RunStatus::failed && !result.left_behind);
}

void tell_sinks(const RunResult& result, Stage stage, const std::vector<std::shared_ptr<Sink>>& sinks) {
  const auto& card = result.files->card();
  const StageEndedRecord ended{stage, RunStatus::failed, card.progress.log_step, card.metrics,
                               result.failure->describe()};
  for (const auto& sink : sinks) {
    (void)text_thrown_by([&] {
      if (result.failure->hook == "logger " + sink->name()) return;
      sink->write(ended);
      sink->flush();
    });
  }
}

}  // namespace

void tell_of_failure(RunResult& result, Stage stage, const std::vector<std::shared_ptr<Sink>>& sinks) {
  if (!result.files || !result.failure) return;
  if (sinks_are_owed_an_end(result)) tell_sinks(result, stage, sinks);
  const auto& card = result.files->card();
  if (card.failure && card.status != RunStatus::running) return;
  if (!card.failure) result.files->take(RunNews{.failure = result.failure});
  result.files->end_stage(RunStatus::failed, result.failure->describe());
}

}  // namespace troupe::cast
