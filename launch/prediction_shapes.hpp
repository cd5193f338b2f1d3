// What the command `predict` prints of its outputs.
#pragma once

#include "troupe/modules/callback.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Adds up the shapes of what predict_step returns, of all devices of the process, without keeping it.
class PredictionShapes : public Callback {
 public:
  /// Counts together with this one. Hooks of the two may be called at the same time.
  std::shared_ptr<Callback> replicate() const override { return std::make_shared<PredictionShapes>(*this); }
  void on_predict_batch_end(RunContext& run, Module& module, const StepOutput& output, const Batch& batch,
                            int64_t batch_idx, int64_t dataloader_idx) override;
  /// A line for each output of each loader, "prediction [64, 10] Float"; the loader stands before it where there are
  /// several.
  std::string text() const;

 private:
  struct Seen {
    std::mutex mutex;
    std::map<std::pair<int64_t, std::string>, std::pair<std::vector<int64_t>, std::string>> shapes;  // and types
    int64_t loaders = 0;
  };
  std::shared_ptr<Seen> seen_ = std::make_shared<Seen>();
};

}  // namespace troupe
