// Which metrics belong on one chart: those of training and of evaluation that measure the same.
#pragma once

#include <string>
#include <vector>

namespace troupe {

struct MetricChart {
  std::string title;               ///< "loss"
  std::vector<std::string> names;  ///< "train_loss_step", "train_loss_epoch", "val_loss/dataloader_idx_1"
};

/// A chart for each thing that metrics of more than one stage measure, by title. A name without a stage counts as one.
std::vector<MetricChart> charts_over_stages(const std::vector<std::string>& names);

}  // namespace troupe
