#include "troupe/runtime/parts/named_optimizer.hpp"

#include "troupe/modules/module.hpp"

#include <utility>
#include <vector>

namespace troupe {

NamedOptimizer::NamedOptimizer(Choice optimizer, ScheduleChoice scheduler)
    : optimizer_(std::move(optimizer)), scheduler_(std::move(scheduler)) {}

std::string NamedOptimizer::chosen() const {
  return optimizer_.part ? "optimizer = " + optimizer_.name : "scheduler = " + scheduler_.name;
}

Optimizers NamedOptimizer::configure(RunContext& run, Module& module, const Optimizers& own) const {
  if (!module.automatic_optimization) {
    throw UsageError(chosen() +
                     " takes the place of configure_optimizers, whose optimizers the module steps itself"
                     " (automatic_optimization = false): leave it out");
  }
  if (own.size() > 1) {
    throw UsageError(chosen() + " is for a module with one optimizer, and configure_optimizers returned " +
                     std::to_string(own.size()) + ": leave it out");
  }
  if (!optimizer_.part && own.empty()) {
    throw UsageError(chosen() +
                     " has no optimizer: configure_optimizers returned none; name one, as in"
                     " --optimizer adamw");
  }
  if (!optimizer_.part && !own.lr_schedulers().empty()) {
    throw UsageError(chosen() +
                     " would come beside the scheduler that configure_optimizers returned: name the"
                     " optimizer too, as in --optimizer adamw, which takes the place of both");
  }
  const OptimizerPtr optimizer = optimizer_.part ? optimizer_.part->make(module) : own.at(0);
  if (optimizer_.part && !own.empty()) {
    run.note(chosen() +
             (own.lr_schedulers().empty() ? " takes the place of the optimizer that configure_optimizers"
                                          : " takes the place of the optimizer and the scheduler that"
                                            " configure_optimizers") +
             " returned");
  }
  std::vector<LRSchedulerConfig> schedulers;
  if (scheduler_.part) schedulers.push_back(scheduler_.part->make(optimizer, run));
  return {std::vector<OptimizerPtr>{optimizer}, std::move(schedulers)};
}

}  // namespace troupe
