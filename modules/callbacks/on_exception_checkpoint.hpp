// Saves the state of a run that fails.
#pragma once

#include "troupe/modules/callback.hpp"

#include <filesystem>
#include <string>

namespace troupe {

/// Writes `<dirpath>/<filename>.safetensors` when a run fails, whatever the reason, unless it failed before training
/// began. Names are Lightning's
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.OnExceptionCheckpoint.html). The state is
/// that of the moment: a run that goes on from it repeats the batch that failed.
class OnExceptionCheckpoint : public Callback {
 public:
  /// `dirpath` empty: `checkpoints` in the run's folder. Throws UsageError for a filename with folders.
  explicit OnExceptionCheckpoint(std::filesystem::path dirpath = {}, std::string filename = "on_exception");
  bool has_batch_hooks() const override { return false; }
  void on_fit_start(RunContext& run, Module& module) override;
  void on_train_start(RunContext& run, Module& module) override;
  void on_exception(RunContext& run, Module& module, const Failure& failure) override;

 private:
  std::filesystem::path dirpath_;
  std::string filename_;
  bool has_begun_ = false;
};

}  // namespace troupe
