// The stage tune of a program: finders, and the options that take what they suggest.
#pragma once

#include "troupe/launch/option_group.hpp"
#include "troupe/launch/trainer.hpp"
#include "troupe/launch/tuner_options.hpp"
#include "troupe/modules/data_module.hpp"

#include <functional>
#include <vector>

namespace troupe {

/// `PROGRAM tune`: no stage of a run, so that it is none of Stage.
inline constexpr const char* tune_word = "tune";

struct TuneOptions {
  bool lr = false;
  bool batch_size = false;
  bool threads = false;
  bool fetchers = false;
};
TROUPE_OPTIONS(TuneOptions, (lr, "find a learning rate"), (batch_size, "find the largest batch size that fits"),
               (threads, "measure numbers of threads per operation"), (fetchers, "measure numbers of fetchers"))

/// All that finders can be told on the command line.
struct TuneSettings {
  TuneOptions tune;
  LrFindOptions lr_find;
  ScaleBatchSizeOptions scale_batch_size;
  MeasureOptions measure;
};

/// Groups tune, lr_find, scale_batch_size and measure. Refer to `settings`.
std::vector<OptionGroup> tune_groups(TuneSettings& settings);

/// For other stages: throws UsageError if a finder was asked for.
void refuse_finders(const TuneOptions& options);

/// Runs the finders that were asked for, a batch size first, which the others then train with. On rank zero what they
/// say goes to stderr, unless trainer.quiet is on, and the options that take it to stdout, as one line:
/// `--data.batch_size 256 --model.lr 0.012`. `groups` may hold "model" and "data"; their options are as they were
/// afterwards. Throws UsageError if no finder was asked for, and what the finders throw.
void tune(const TuneSettings& settings, Trainer& trainer, const std::vector<OptionGroup>& groups,
          const std::function<ModuleSource()>& source, const std::function<DataModulePtr()>& data);

}  // namespace troupe
