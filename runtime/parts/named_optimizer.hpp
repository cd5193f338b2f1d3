// The optimizer and the scheduler that options name, in place of what configure_optimizers returns.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/runtime/parts/parts.hpp"

#include <memory>
#include <string>

namespace troupe {

/// A callback, so that a run has it like any other choice; the replica asks it instead of taking configure_optimizers'
/// word. LightningCLI does the same to a module's configure_optimizers.
class NamedOptimizer final : public Callback {
 public:
  struct Choice {
    std::string name = "";  ///< "muon"; empty: none was chosen
    std::shared_ptr<const OptimizerRegistry::Named> part = nullptr;
  };
  struct ScheduleChoice {
    std::string name = "";
    std::shared_ptr<const SchedulerRegistry::Named> part = nullptr;
  };

  NamedOptimizer(Choice optimizer, ScheduleChoice scheduler);

  std::shared_ptr<Callback> replicate() const override { return std::make_shared<NamedOptimizer>(*this); }
  bool has_batch_hooks() const override { return false; }
  /// Not a scheduler alone.
  bool has_optimizer() const { return optimizer_.part != nullptr; }

  /// The named optimizer of all parameters of `module`, or the one of `own`, what its configure_optimizers returned;
  /// with the named scheduler, which stands alone. Throws UsageError for manual optimization, for several optimizers in
  /// `own`, and if a scheduler would come beside one of `own` or has no optimizer.
  Optimizers configure(RunContext& run, Module& module, const Optimizers& own) const;

 private:
  std::string chosen() const;

  Choice optimizer_;
  ScheduleChoice scheduler_;
};

}  // namespace troupe
