// Keeps the best and the last checkpoints of a run.
//
//     Trainer trainer({.callbacks = {std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{
//         .filename = "{epoch:02d}-{val_loss:.2f}", .monitor = "val_loss", .save_top_k = 3, .save_last = true})}});
//
// Names, meanings and defaults are those of Lightning 2.6's ModelCheckpoint
// (https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ModelCheckpoint.html); a difference is
// written at the option. Its verbose and enable_version_counter do not exist here.
#pragma once

#include "troupe/modules/callbacks/file_name_template.hpp"
#include "troupe/modules/callbacks/metric_sources.hpp"
#include "troupe/modules/monitor.hpp"
#include "troupe/modules/monitor_mode.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

struct ModelCheckpointOptions {
  /// Folder of the files; empty: `checkpoints` in the run's folder. It is made if it does not exist.
  std::filesystem::path dirpath = {};
  /// Template of file names, see FileNameTemplate; empty: "{epoch}-{step}". ".safetensors" is added, and "-v1", "-v2",
  /// ... if the name is taken. A metric that is not there yet counts as 0. In Lightning a '/' makes folders, here it
  /// is refused.
  std::string filename = "";
  /// The metric that tells which checkpoints are the best. Empty: "val_loss" if it is logged, else (and with
  /// every_n_train_steps or train_time_interval) the newest is the best. In Lightning unset is always the newest. One
  /// that is never logged ends the run, unless it could not be: limit_val_batches = 0 leaves the validation out, or its
  /// loaders had no batch; then none is the best.
  std::string monitor = "";
  /// Which values of `monitor` are better.
  MonitorMode mode = MonitorMode::min;
  /// How many of the best to keep; 0 is none, -1 is all. Values that are not finite never count as best: what has them
  /// is saved with -1 only.
  int64_t save_top_k = 1;
  /// Also keep `last.safetensors`, written at each occasion to save, whatever the metric, besides on Ctrl-C, and at the
  /// end of training if something was trained since. In Lightning only at the occasions.
  bool save_last = false;
  /// Leave out what only a resumed run needs. It holds for all checkpoints of the run.
  bool save_weights_only = false;
  /// Save in each n-th epoch; unset: every epoch, unless one of the next two is set. One of the three may be set.
  std::optional<int64_t> every_n_epochs = std::nullopt;
  /// Save after each n-th optimizer step, and at no end of an epoch.
  std::optional<int64_t> every_n_train_steps = std::nullopt;
  /// Save when so much time has passed since training began or the latest such save, between two batches, and at no end
  /// of an epoch. Rank zero's clock decides; a resumed run goes on with what had passed.
  std::optional<std::chrono::milliseconds> train_time_interval = std::nullopt;
  /// True: save at ends of training epochs only. False: after each validation (in a run without any, at ends of
  /// epochs). Unset: at ends of epochs, and after validations within an epoch if the metric comes from validation.
  std::optional<bool> save_on_train_epoch_end = std::nullopt;
  /// "{epoch}" in `filename` becomes "epoch=3" and not "3".
  bool auto_insert_metric_name = true;
};

/// Decides what to save; files are written by the checkpointer, and what one replaces is deleted only after it is safe.
///
/// When: by default once an epoch, at its end, after the validation and with training's own metrics known; a run
/// resumed from there goes on with the next epoch. A value of a validation is judged once: in an epoch without
/// validation only `last` is written. A stream of unknown length whose end is a validation within the epoch by its
/// count (val_check_interval = 100) is saved at both.
///
/// Files of former runs are never deleted: after a resume they go on competing for the best k, but only files in this
/// run's own folder are removed. Files that this run did not make, or that another one of its ModelCheckpoints keeps,
/// are never overwritten.
///
/// A Monitor: `decide` and its like belong to the coordinator; getters may be called by anyone when no run is going on.
/// Two fits of one Trainer write into one folder and share the best k.
class ModelCheckpoint : public Monitor {
 public:
  /// A checkpoint among the best k.
  struct Kept {
    std::filesystem::path path;   ///< absolute
    std::optional<double> score;  ///< nothing if it counts by age
  };

  /// Throws UsageError for invalid options.
  explicit ModelCheckpoint(ModelCheckpointOptions options = {});

  const ModelCheckpointOptions& options() const { return options_; }
  /// Absolute; empty when there is none.
  std::filesystem::path best_model_path() const;
  std::optional<double> best_model_score() const;
  /// The worst of the best k; empty while there are less than k.
  std::filesystem::path kth_best_model_path() const;
  std::optional<double> kth_value() const;
  /// The best first.
  const std::vector<Kept>& best_k_models() const { return best_; }
  /// Absolute; empty before it is written for the first time, and without save_last.
  const std::filesystem::path& last_model_path() const { return last_; }

  std::string state_key() const override;
  /// Paths are relative to "dirpath", the folder of the files: usually plain file names.
  nlohmann::json state_dict() const override;
  /// After start(). Files that are gone are forgotten.
  void load_state_dict(const nlohmann::json& state) override;

  /// Throws UsageError if `dirpath` cannot be written to. Nothing is saved in a run without a folder.
  void start(const RunInfo& info) override;
  std::optional<int64_t> next_step(const Progress& progress) const override;
  std::optional<double> next_time() const override;
  Decision decide(Moment moment, const Progress& progress, const MetricMap& metrics) override;
  bool skip_save(const Progress& progress) override;
  void saved(const std::filesystem::path& path) override;
  void save_failed(const std::filesystem::path& path) override;
  void run_ended() override;

 private:
  /// One of the best k that is not on the disk yet, and what counts again if it cannot be written.
  struct Asked {
    std::filesystem::path path;
    std::optional<Kept> replaced;
  };

  std::string monitored(const MetricMap& metrics) const;
  bool saves_within_epochs() const { return options_.every_n_train_steps || options_.train_time_interval; }
  bool is_due(Moment moment, const Progress& progress, const MetricMap& metrics) const;
  bool is_better(const std::optional<double>& score, const std::optional<double>& than) const;
  void judge(const Progress& progress, const MetricMap& metrics, Decision& decision);
  void keep(Kept kept, const std::string& stem, Decision& decision);
  void insert(Kept kept);
  void save_last(Decision& decision);
  std::string file_stem(const Progress& progress, const MetricMap& metrics) const;
  std::filesystem::path take_path(const std::string& stem, const std::filesystem::path& may_replace);
  bool is_left_over(const std::filesystem::path& path, const std::filesystem::path& kept) const;
  void claim_files();
  bool is_own(const std::filesystem::path& path) const { return path.parent_path() == folder_; }
  std::string stored(const std::filesystem::path& path) const;
  bool is_full() const { return options_.save_top_k > 0 && std::ssize(best_) >= options_.save_top_k; }

  ModelCheckpointOptions options_;
  FileNameTemplate template_;
  RunInfo info_;
  MetricSources sources_;
  std::filesystem::path folder_;  // absolute and normal
  std::vector<Kept> best_;        // the best first
  std::deque<Asked> asked_;       // the oldest first
  std::filesystem::path last_;
  bool saves_ = false;
  bool has_news_ = false;        // a validation ended whose value was not judged
  bool is_last_current_ = true;  // nothing was trained since `last` was written
  int64_t saved_step_ = -1;      // the global step of the latest occasion
  double timed_from_ = 0;        // the latest occasion that went by time, by info_.seconds
  int64_t seen_step_ = -1;       // the global step when it was last asked within an epoch
};

}  // namespace troupe
