// Writes predictions to files as they come.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/options/choices.hpp"
#include "troupe/runtime/sinks/prediction_file.hpp"

#include <filesystem>
#include <string>

namespace troupe {

/// What files there are.
enum class WriteInterval {
  batch,            ///< one per batch, "batch_<loader>_<batch>.safetensors"
  epoch,            ///< one per loader, "predictions_<loader>.safetensors", when all is predicted
  batch_and_epoch,  ///< both
};
TROUPE_CHOICES(WriteInterval, {batch, "batch"}, {epoch, "epoch"}, {batch_and_epoch, "batch_and_epoch"})

struct PredictionWriterOptions {
  /// Folder of the files; it is made if it does not exist. Required.
  std::filesystem::path output_dir = {};
  /// Ranks (devices and processes) divide the batches, and each writes its own: of an epoch into a file of its own,
  /// which has "rank_<r>." before its name where r is not 0, as those of write_prediction. Names of batches are those
  /// of one rank alone, unless use_distributed_sampler = false leaves them to the loaders: then "rank_<r>." is before
  /// them too.
  WriteInterval write_interval = WriteInterval::batch;
};

/// What predict_step returned, as safetensors files with a tensor for each key; those of an epoch are joined along the
/// first dimension. Lightning's BasePredictionWriter
/// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BasePredictionWriter.html) leaves the
/// writing to a subclass; here it is there.
class PredictionWriter : public Callback {
 public:
  /// Throws UsageError if no folder is given.
  explicit PredictionWriter(PredictionWriterOptions options);
  std::shared_ptr<Callback> replicate() const override { return std::make_shared<PredictionWriter>(options_); }
  void on_predict_epoch_start(RunContext& run, Module& module) override;
  void on_predict_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                            int64_t batch_idx, int64_t dataloader_idx) override;
  void on_predict_epoch_end(RunContext& run, Module& module) override;

 private:
  PredictionWriterOptions options_;
  PredictionFiles batch_, epoch_;
};

}  // namespace troupe
