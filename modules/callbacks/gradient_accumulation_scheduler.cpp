#include "troupe/modules/callbacks/gradient_accumulation_scheduler.hpp"

#include "troupe/modules/module.hpp"

namespace troupe {

GradientAccumulationScheduler::GradientAccumulationScheduler(std::map<int64_t, int64_t> scheduling)
    : scheduling_(std::move(scheduling)) {
  if (scheduling_.empty()) throw UsageError("GradientAccumulationScheduler: there is no epoch in the schedule");
  for (const auto& [epoch, batches] : scheduling_) {
    if (epoch >= 0 && batches >= 1) continue;
    throw UsageError("GradientAccumulationScheduler: " + std::to_string(batches) + " batches from epoch " +
                     std::to_string(epoch) + " on; epochs count from 0, batches from 1");
  }
}

void GradientAccumulationScheduler::on_fit_start(RunContext& run, Module& module) {
  if (run.options().accumulate_grad_batches != 1) {
    throw UsageError("GradientAccumulationScheduler sets accumulate_grad_batches: leave the Trainer's at 1");
  }
  if (!module.automatic_optimization) {
    throw UsageError("GradientAccumulationScheduler does nothing with automatic_optimization = false");
  }
}

void GradientAccumulationScheduler::on_train_epoch_start(RunContext& run, Module&) {
  const auto next = scheduling_.upper_bound(run.progress().epoch);
  if (next != scheduling_.begin()) run.set_accumulate_grad_batches(std::prev(next)->second);
}

}  // namespace troupe
