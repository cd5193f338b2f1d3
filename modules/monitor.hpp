// Callbacks that decide: what to save and when to stop.
#pragma once

#include "troupe/modules/callback.hpp"
#include "troupe/modules/progress.hpp"

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace troupe {

/// The boundaries at which monitors are asked. A validation whose loaders had no batch, so that it logged nothing, ends
/// with `empty_validation_end` instead of `validation_end`.
enum class Moment {
  sanity_check_end,
  validation_end,
  empty_validation_end,
  train_batch_end,
  train_epoch_end,
  train_end,
  exception
};

/// A checkpoint to write. The checkpointer deletes `remove` only after the new file is safe on the disk.
struct SaveRequest {
  std::filesystem::path path;
  std::vector<std::filesystem::path> remove;
  /// Do not write it if a weight is not finite: it would replace a checkpoint that is of use.
  bool must_be_finite = false;
};

/// What a monitor wants done. Requests of several monitors add up; one stop is enough.
struct Decision {
  bool stop = false;
  std::string reason;  ///< why to stop, for the user to read
  std::vector<SaveRequest> save;
  /// Takes back a stop that it asked for earlier, and that min_epochs or min_steps have put off since.
  bool go_on = false;
};

/// What a monitor is told when a run starts.
struct RunInfo {
  std::filesystem::path run_dir;  ///< <default_root_dir>/<name>/version_N
  /// Whether the run validates at all; a monitor of the epoch's end acts after validation then.
  bool has_validation = false;
  /// Whether it would, but limit_val_batches = 0 turns validation off: what a validation logs is missing on purpose.
  bool validation_is_off = false;
  /// Training batches of an epoch, limits considered; nothing if that is not known.
  std::optional<int64_t> train_batches = std::nullopt;
  /// Whether validations fall within epochs, and not at their ends only.
  bool validates_mid_epoch = false;
  /// Seconds of a clock that never goes back. Rank zero's decides for all: what goes by time is never due elsewhere.
  std::function<double()> seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  bool decides_times = true;
  /// Files that monitors of this run keep or have asked for: two that save into one folder must not take one path.
  std::shared_ptr<std::set<std::filesystem::path>> kept_files = std::make_shared<std::set<std::filesystem::path>>();
};

/// A callback whose answers are decisions. The coordinator asks it, at boundaries only and on one thread, once per
/// process, so that all devices act on one answer (protocol rules P3 and P8). Its hooks, inherited from Callback, run
/// on the worker like any other callback's and must not touch what `decide` uses.
class Monitor : public Callback {
 public:
  /// A monitor that overrides hooks of batches returns true here.
  bool has_batch_hooks() const override { return false; }
  /// Before the first decision. Throws UsageError if its options cannot work in this run.
  virtual void start(const RunInfo& info) { (void)info; }
  /// The global step at which it wants to be asked with Moment::train_batch_end, when one is planned.
  virtual std::optional<int64_t> next_step(const Progress& progress) const {
    (void)progress;
    return std::nullopt;
  }
  /// The time of RunInfo::seconds at which it wants to be asked in the same way, between two batches, if it goes by
  /// time.
  virtual std::optional<double> next_time() const { return std::nullopt; }
  /// `metrics` are the callback metrics, all reduced and read back. Throws UsageError for a monitored name that was
  /// never logged, listing those that were.
  virtual Decision decide(Moment moment, const Progress& progress, const MetricMap& metrics) = 0;
  /// Called instead of `decide` at a step that next_step, or a time that next_time had planned, if
  /// checkpoint_backpressure = skip leaves out a checkpoint. Return true, unless the monitor has more to decide than
  /// that.
  virtual bool skip_save(const Progress& progress) {
    (void)progress;
    return false;
  }
  /// A file that the monitor asked for is on the disk. Answers come in the order of the decisions, maybe after later
  /// ones.
  virtual void saved(const std::filesystem::path& path) { (void)path; }
  /// A file that the monitor asked for was not written; the files to be removed for it are still there.
  virtual void save_failed(const std::filesystem::path& path) { (void)path; }
  /// The run has ended, maybe with a failure: files that the monitor asked for and has no answer to are not written.
  virtual void run_ended() {}
};

}  // namespace troupe
