// Writes predictions to files as they come.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/runtime/prediction_file.hpp"

#include <filesystem>
#include <string>

namespace troupe {

struct PredictionWriterOptions {
  /// Folder of the files; it is made where it does not exist. Required.
  std::filesystem::path output_dir = {};
  /// "batch": a file a batch, "batch_<loader>_<batch>.safetensors"; "epoch": one file a loader,
  /// "predictions_<loader>.safetensors", when all is predicted; "batch_and_epoch": both.
  std::string write_interval = "batch";
};

/// What predict_step returned, as safetensors files with a tensor for each key; those of an epoch are joined along the
/// first dimension. Lightning's BasePredictionWriter
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BasePredictionWriter.html) leaves the
/// writing to a subclass; here it is there.
class PredictionWriter : public Callback {
 public:
  /// Throws UsageError for no folder and another interval.
  explicit PredictionWriter(PredictionWriterOptions options);
  void on_predict_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                            int64_t batch_idx, int64_t dataloader_idx) override;
  void on_predict_epoch_end(RunContext& run, Module& module) override;

 private:
  PredictionWriterOptions options_;
  PredictionFiles batch_, epoch_;
};

}  // namespace troupe
