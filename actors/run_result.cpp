#include "troupe/actors/run_result.hpp"

#include "troupe/base/exception_text.hpp"

namespace troupe::cast {

void tell_of_failure(RunResult& result, Stage stage, const std::vector<std::shared_ptr<Sink>>& sinks) {
  if (!result.files || !result.failure) return;
  const auto& card = result.files->card();
  const auto message = result.failure->describe();
  if (!result.sinks_know) {
    const StageEndedRecord ended{stage, RunStatus::failed, card.progress.log_step, card.metrics, message};
    for (const auto& sink : sinks) {
      (void)text_thrown_by([&] {
        sink->write(ended);
        sink->flush();
      });
    }
  }
  if (card.failure && card.status != RunStatus::running) return;
  if (!card.failure) result.files->take(RunNews{.failure = result.failure});
  result.files->end_stage(RunStatus::failed, message);
}

}  // namespace troupe::cast
