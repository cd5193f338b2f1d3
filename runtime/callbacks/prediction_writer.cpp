#include "troupe/runtime/callbacks/prediction_writer.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/module.hpp"

#include <algorithm>

namespace troupe {

PredictionWriter::PredictionWriter(PredictionWriterOptions options) : options_(std::move(options)) {
  if (options_.output_dir.empty()) throw UsageError("PredictionWriter: output_dir is empty; name a folder");
}

// What a prediction that failed has left is none of the next one's.
void PredictionWriter::on_predict_epoch_start(RunContext&, Module&) {
  batch_ = {};
  epoch_ = {};
}

void PredictionWriter::on_predict_batch_end(RunContext& run, Module&, const StepOutput& output, const Batch&,
                                            int64_t batch_idx, int64_t dataloader_idx) {
  const auto loader = std::to_string(dataloader_idx), rank = rank_prefix(run.global_rank());
  for (const auto& [name, tensor] : output.items()) {
    if (!tensor.defined() || tensor.dim() == 0) {
      throw UsageError("PredictionWriter: '" + shown(name) + "', which predict_step returned, is " +
                       (tensor.defined() ? "a scalar" : "undefined") + "; give it a first dimension, that of samples");
    }
    if (options_.write_interval != WriteInterval::epoch) {
      const auto file = "batch_" + loader + "_" + std::to_string(batch_idx) + ".safetensors";
      batch_.add(options_.output_dir, run.options().use_distributed_sampler ? file : rank + file, name, tensor);
    }
    if (options_.write_interval != WriteInterval::batch) {
      epoch_.add(options_.output_dir, rank + "predictions_" + loader + ".safetensors", name, tensor);
    }
  }
  batch_.write();
}

void PredictionWriter::on_predict_epoch_end(RunContext&, Module&) {
  epoch_.write();
}

}  // namespace troupe
