// Prints the model's layers and sizes before training.
#pragma once

#include "troupe/modules/callback.hpp"

namespace troupe {

/// Lightning's ModelSummary
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ModelSummary.html): the table of
/// runtime/summary/model_summary.hpp on stderr, before the sanity check. Shapes are in it where the module has an
/// example_input_array. A Trainer has one by default (TrainerOptions::enable_model_summary); one in `callbacks`, or of
/// configure_callbacks, takes its place:
///
///     Trainer trainer({.callbacks = {std::make_shared<ModelSummary>(-1)}});    // all levels
class ModelSummary : public Callback {
 public:
  /// Down to `max_depth` levels: 1 is the module's children, -1 all, 0 prints nothing. Throws UsageError below -1.
  explicit ModelSummary(int max_depth = 1);
  bool has_batch_hooks() const override { return false; }
  void on_pretrain_routine_start(RunContext& run, Module& module) override;

 private:
  int max_depth_;
};

}  // namespace troupe
