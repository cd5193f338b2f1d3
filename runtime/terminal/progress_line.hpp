// One line that says how far a stage is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// What is being counted. Training is the main line; a sanity check, and validation during training, pass by.
enum class Activity { sanity_check, train, validate, test, predict };

struct ProgressState {
  Activity activity = Activity::train;
  int64_t epoch = 0;                                    ///< from 0, as in metrics.csv; shown while training
  std::optional<int64_t> max_epochs;                    ///< how many epochs there will be, when it is limited
  int64_t batch = 0;                                    ///< batches finished
  std::optional<int64_t> total_batches;                 ///< nothing for a stream
  double elapsed = 0;                                   ///< seconds since the stage (while training: the epoch) began
  double batches_per_second = 0;                        ///< 0 or NaN while unknown
  std::vector<std::pair<std::string, double>> metrics;  ///< shown in this order
};

/// "Epoch 3/9" (epochs count from 0 up to max_epochs - 1, as Lightning shows them), "Sanity Checking", "Validation",
/// "Testing", "Predicting".
std::string describe(const ProgressState& state);

/// A line of at most `width` columns:
///
///     Epoch 3/9:  45%|████▌     | 56/125 [00:12<00:15, 4.61it/s, train_loss=0.231, val_acc=0.951]
///
/// Where the width does not suffice the bar goes first, then metrics from the last one on, then the line's end.
std::string render_bar(const ProgressState& state, int width);

/// The same without the bar, of any length, for files.
std::string render_plain(const ProgressState& state);

}  // namespace troupe
