// Metrics for Trackio (https://github.com/gradio-app/trackio): `trackio show --project <project>`.
#pragma once

#include "troupe/base/unix_seconds.hpp"
#include "troupe/modules/options/tracker_options.hpp"
#include "troupe/modules/record.hpp"
#include "troupe/runtime/report/run_card.hpp"
#include "troupe/runtime/sinks/sink_warning.hpp"
#include "troupe/runtime/sinks/trackio_file.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace troupe {

/// Writes metrics (with the epoch as one of them), texts (as Markdown) and the run's options into the project's SQLite
/// file, as `trackio` itself does; both may write to one project at once. A stage that failed becomes an alert, and the
/// configuration's `status` says what became of the run. Histograms and images are left out.
///
/// Names that Trackio keeps for itself ("step", "time", "timestamp", "project", "run", "metrics", "__*") get "__" in
/// front, as it does. Options are flat: "trainer.max_epochs".
///
/// Rows are written in one transaction at flush, and after each 1,000. If the file is held by another process (it is
/// waited for 50 ms) or cannot be written (a full disk), one warning is given, the rows wait in memory, and the next
/// flush tries again; above 100,000 rows or 64 MiB the oldest are lost. The end of a stage waits for others as long as
/// Trackio does, up to 40 s.
///
/// Used from one thread.
class TrackioSink : public Sink {
 public:
  using Clock = std::function<double()>;

  /// Project and name of the run are those of `options`, else `card`'s name and version, and its id is `card`'s, else a
  /// new one. Throws UsageError for a name that Trackio refuses, and for a file that is not Trackio's. `clock` gives
  /// seconds since 1970.
  TrackioSink(const TrackioOptions& options, const RunCard& card, SinkWarning warn = warn_on_stderr,
              Clock clock = unix_seconds);
  ~TrackioSink() override;

  std::string name() const override { return "trackio"; }
  void write(const Record& record) override;
  void flush() override { send(TrackioFile::Patience::none); }

  const std::filesystem::path& path() const { return file_.path(); }
  const std::string& run_id() const { return run_id_; }
  /// Rows that were lost since the file could not be written.
  int64_t lost() const { return lost_; }

 private:
  void add(const ScalarsRecord& record);
  void add(const TextRecord& record);
  void add(const HparamsRecord& record);
  void add(const StageEndedRecord& record);
  template <class Other>
  void add(const Other&) {}  // left out

  void add_row(int64_t step, std::string values);
  void send(TrackioFile::Patience patience);
  void drop_oldest_rows();

  SinkWarning warn_;
  Clock clock_;
  TrackioFile file_;
  std::string run_id_, run_name_;
  nlohmann::json config_;  // flat
  bool is_config_new_ = true;
  TrackioBatch batch_;
  std::size_t bytes_ = 0;  // of the rows
  bool is_stuck_ = false;  // the last try failed: the next flush tries again
  bool has_warned_ = false;
  int64_t lost_ = 0;
};

}  // namespace troupe
