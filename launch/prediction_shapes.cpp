#include "troupe/launch/prediction_shapes.hpp"

#include "troupe/base/text.hpp"
#include "troupe/modules/step_output.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>

#include <algorithm>

namespace troupe {

void PredictionShapes::on_predict_batch_end(RunContext&, Module&, const StepOutput& output, const Batch&, int64_t,
                                            int64_t dataloader_idx) {
  const std::lock_guard lock(seen_->mutex);
  seen_->loaders = std::max(seen_->loaders, dataloader_idx + 1);
  for (const auto& [name, tensor] : output.items()) {
    if (!tensor.defined()) continue;
    const auto [place, is_new] = seen_->shapes.try_emplace({dataloader_idx, name});
    auto& [shape, type] = place->second;
    if (is_new) {
      shape = tensor.sizes().vec();
      type = c10::str(tensor.scalar_type());
    } else if (!shape.empty() && tensor.dim() > 0) {
      shape.front() += tensor.size(0);
    }
  }
}

std::string PredictionShapes::text() const {
  const std::lock_guard lock(seen_->mutex);
  std::string lines;
  for (const auto& [key, seen] : seen_->shapes) {
    if (seen_->loaders > 1) lines += "loader " + std::to_string(key.first) + ": ";
    lines += c10::str(shown(key.second), " ", torch::IntArrayRef(seen.first), " ", seen.second, "\n");
  }
  return lines;
}

}  // namespace troupe
