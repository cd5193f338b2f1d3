// The files that tell of a run, while it goes on and afterwards: run.json, report.html, failure.json.
#pragma once

#include "troupe/modules/stage.hpp"
#include "troupe/runtime/report/metric_curves.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// What is new of a run; what has no value says nothing.
struct RunNews {
  std::optional<Progress> progress = {};
  std::optional<int64_t> total_batches = {};
  std::optional<double> seconds_left = {};
  std::optional<MetricMap> metrics = {};
  std::optional<PhaseReport> phases = {};
  std::optional<std::string> warning = {};
  std::vector<std::filesystem::path> checkpoints = {};  ///< that are on the disk now
  std::optional<std::filesystem::path> best_checkpoint = {};
  std::optional<ModelRecord> model = {};
  std::optional<Failure> failure = {};
};

/// Keeps a run's card and curves, and writes the files when they are due: run.json every 2 s, the page after 1 s
/// and then every 5 s, or less often so that it takes at most a fiftieth of the time; both every minute at least, so
/// that files that stay as they are for longer tell that nobody writes them any more. The stages of one Trainer, which
/// share a folder, share one of these. While a stage goes on it holds the folder's RunLock.
///
/// A file that cannot be written is a warning, once; the next time it is tried again. Used by one thread at a time.
class RunFiles {
 public:
  struct Options {
    std::filesystem::path folder = {};  ///< empty: nothing is written
    bool writes_page = true;
    std::function<double()> clock = {};  ///< seconds since 1970; empty: the system's
  };

  RunFiles(RunCard card, Options options);
  /// Goes on with the files of a run that another process has written so far.
  RunFiles(RunCard card, MetricCurves curves, Options options);

  /// Before a stage: what it runs on.
  void set_devices(std::vector<std::string> devices, int64_t world_size);
  /// The commit of the folder that the process is in. It may wait for git, once.
  void ask_git();
  /// A stage begins. On a thread that may wait: it asks git.
  void begin_stage(Stage stage);
  /// `time`: seconds since 1970, when it was logged.
  void take(const ScalarsRecord& record, double time);
  void take(const RunNews& news);
  /// Between two stages: a finder's curve, in place of one of the same name. All files are written, and the curve as
  /// <folder>/<name>.csv. A folder that has no stage yet is one of the stage "tune", which has finished.
  void add(Finding finding);
  /// The options that the next stage runs with, where the folder was made before they were known.
  void set_options(nlohmann::json options) { card_.options = std::move(options); }
  /// The stage is over; all files are written.
  void end_stage(RunStatus status, const std::string& message);
  /// Writes what is due. True if a file was tried.
  bool write_if_due();
  /// What could not be written since the last call, in one sentence; empty: nothing.
  std::string take_problem();

  const RunCard& card() const { return card_; }
  const MetricCurves& curves() const { return curves_; }
  const std::filesystem::path& folder() const { return options_.folder; }

 private:
  template <class Write>
  void write(const char* what, Write write);
  void claim_folder();
  void write_card();
  void write_page();
  /// Not if the process that crashed has done so: it knows more.
  void write_failure();
  void forget_deleted_checkpoints();

  RunCard card_;
  MetricCurves curves_;
  Options options_;
  bool card_is_old_ = false, page_is_old_ = false, has_asked_git_ = false;
  bool has_warned_ = false;
  double card_due_ = 0, page_due_ = 0, sign_of_life_due_ = 0;
  RunLock lock_;
  std::string problem_;
};

}  // namespace troupe
