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
  std::optional<double> run_seconds_left = {};          ///< until the end of training; nothing while unknown
  std::vector<std::pair<std::string, double>> metrics;  ///< shown in this order
};

/// "00:12", "1:02:03"; "?" for what is no time.
std::string format_time(double seconds);

/// "Epoch 3/9" (epochs count from 0 up to max_epochs - 1, as Lightning shows them), "Sanity Checking", "Validation",
/// "Testing", "Predicting".
std::string describe(const ProgressState& state);

/// A line of at most `width` columns, as columns() of base/text.hpp counts them:
///
///     Epoch 3/9:  45%|████▌     | 56/125 [00:12<00:15, run<03:05, 4.61it/s, train_loss=0.231, val_acc=0.951]
///
/// 00:12 has passed since the epoch began, 00:15 are left of it, and 03:05 of the run. If the width does not suffice
/// for all of it there is no bar, and what does not fit beside what is named before it is left out: stage and epoch,
/// the percentage (the count if the total is unknown), the time left (of the run, else of the epoch), the first metric,
/// the count, the times of the epoch, the rate, the other metrics in their order; "…" stands for metrics that are
/// missing.
std::string render_bar(const ProgressState& state, int width);

/// The same without the bar, of any length, for files.
std::string render_plain(const ProgressState& state);

}  // namespace troupe
