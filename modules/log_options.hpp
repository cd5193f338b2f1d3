// How a metric given to log() is reduced and where it goes.
#pragma once

#include <cstdint>
#include <optional>

namespace troupe {

/// How the values of an epoch become one. `mean` is weighted by the batch size.
enum class Reduce { mean, sum, min, max };

/// Names, meanings and defaults are Lightning's
/// (https://lightning.ai/docs/pytorch/stable/extensions/logging.html).
struct LogOptions {
  /// Log the value of each step. Unset: in training_step and the batch hooks of training.
  std::optional<bool> on_step = std::nullopt;
  /// Accumulate over the epoch and log the result at its end. Unset: everywhere else.
  std::optional<bool> on_epoch = std::nullopt;
  /// Show it in the progress bar.
  bool prog_bar = false;
  /// Send it to the sinks.
  bool logger = true;
  /// Reduction over the epoch.
  Reduce reduce_fx = Reduce::mean;
  /// Samples behind the value, its weight in a mean. Unset: the size of the batch at hand (Batch::size).
  std::optional<int64_t> batch_size = std::nullopt;
  /// Reduce the value over all ranks. Unset: values of an epoch are, weighted as if one rank had logged them all, and
  /// values of a step are rank zero's own. True: those too, as their mean, whenever a sink is due. False: nothing is.
  /// A reduced value must be logged on all ranks.
  std::optional<bool> sync_dist = std::nullopt;
  /// With several evaluation loaders, append "/dataloader_idx_N" to the name.
  bool add_dataloader_idx = true;
};

}  // namespace troupe
