// What finders can be told (launch/tuner.hpp), with the names and defaults of Lightning's Tuner where it has them
// (https://lightning.ai/docs/pytorch/2.6/api/lightning.pytorch.tuner.tuning.Tuner.html).
#pragma once

#include "troupe/modules/options/choices.hpp"
#include "troupe/modules/options/options.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace troupe {

/// How the rate grows from step to step: by a factor, or by a difference.
enum class LrFindMode { exponential, linear };
TROUPE_CHOICES(LrFindMode, {exponential, "exponential"}, {linear, "linear"})

struct LrFindOptions {
  double min_lr = 1e-8;
  double max_lr = 1;
  int64_t num_training = 100;
  LrFindMode mode = LrFindMode::exponential;
  /// The search ends when the smoothed loss is above this many times its smallest value. None: only when it is no
  /// number any more.
  std::optional<double> early_stop_threshold = 4.0;
  /// The module's option that holds the rate; empty: lr, or learning_rate.
  std::string attr_name = "";
  /// Give that option the suggested rate. Not on the command line, which never sets anything.
  bool update_attr = true;
};
TROUPE_OPTIONS(
    LrFindOptions, (min_lr, "smallest learning rate that is tried"), (max_lr, "largest learning rate that is tried"),
    (num_training, "learning rates to try, an optimizer step each"),
    (mode, "how the rate grows: by a factor or by a difference"),
    (early_stop_threshold,
     "end when the smoothed loss is above so many times its smallest value; none: only when it is no number"),
    (attr_name, "the module's option that holds the rate; empty: lr or learning_rate"))

/// Double while it fits, or double and then halve the distance between what fits and what does not.
enum class BatchSizeMode { power, binsearch };
TROUPE_CHOICES(BatchSizeMode, {power, "power"}, {binsearch, "binsearch"})

struct ScaleBatchSizeOptions {
  BatchSizeMode mode = BatchSizeMode::power;
  /// Of the optimizer, with each size.
  int64_t steps_per_trial = 3;
  int64_t init_val = 2;
  int64_t max_trials = 25;
  /// The option that holds the size, of the data module or else of the module.
  std::string batch_arg_name = "batch_size";
  /// With binsearch, if memory was the limit. Lightning takes it off in any case.
  double margin = 0.05;
  int64_t max_val = 8192;
  /// Memory of the process, of which tensors on the CPU can take what nobody else has when the search begins. None: on
  /// the CPU 90 % of what the machine and the process's control groups then have available, since Linux refuses hardly
  /// any allocation and ends the process later.
  std::optional<double> memory_limit_mb = std::nullopt;
};
TROUPE_OPTIONS(ScaleBatchSizeOptions, (mode, "double the size while it fits; binsearch: then halve the distance"),
               (steps_per_trial, "optimizer steps with each size"), (init_val, "the first size"),
               (max_trials, "sizes to try at most"), (batch_arg_name, "the option that holds the size"),
               (margin, "binsearch: part of the size to leave free if memory was the limit"),
               (max_val, "largest size to try"),
               (memory_limit_mb, "MiB that the process may take on the CPU; none: 90 % of what is available"))

/// How the speed of a setting is measured. Lightning has no such finder.
struct MeasureOptions {
  /// Batches that are timed in each trial, behind `warm_up` that are not.
  int64_t steps = 20;
  int64_t warm_up = 5;
  /// Trials of each setting, in turns, so that what else the machine does meets all of them.
  int64_t repeats = 3;
  /// The option that holds the number of fetchers, of the data module or else of the module.
  std::string workers_arg_name = "num_workers";
};
TROUPE_OPTIONS(MeasureOptions, (steps, "batches that each trial times"), (warm_up, "batches before them"),
               (repeats, "trials of each setting"), (workers_arg_name, "the option that holds the number of fetchers"))

}  // namespace troupe
