// Metrics, options and the status of a run on an MLflow server (https://mlflow.org).
#pragma once

#include "troupe/modules/record.hpp"
#include "troupe/runtime/sinks/sink_by_name.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace troupe {

/// How long the sink has patience with a server; tests have less.
struct MlflowPatience {
  std::chrono::milliseconds first_retry = std::chrono::seconds(1);  ///< doubled with each failure in a row
  std::chrono::milliseconds longest_retry = std::chrono::seconds(60);
  /// For the rest of the records when a stage ends, and for all that and the artifacts.
  std::chrono::milliseconds at_end = std::chrono::seconds(10), with_artifacts = std::chrono::seconds(120);
};

/// | record | on the server |
/// |---|---|
/// | ScalarsRecord | metrics with step and time, and the metric `epoch` |
/// | HparamsRecord | params; one that the run has with another value: a tag `troupe.param.<name>` |
/// | StageEndedRecord | FINISHED, FAILED, or KILLED if a signal ended the run; the tags `troupe.status`,
/// `troupe.message` |
///
/// The options are params from the start, "trainer.max_epochs"; program, user, git commit and folder are tags. A
/// further stage in the same folder goes on with the same run. Other records are ignored.
///
/// The thread that writes never waits for the network: each record goes to <run>/mlflow.spool (mlflow_spool.hpp), and a
/// thread of the sink's own sends what is in there, in order. If the server is not there, then or from the start, the
/// run goes on, there is one warning, and the thread tries again, after 1 s, 2 s and so on up to 60 s. The flush behind
/// the record that ends a stage waits for the rest, and files_are_complete for the artifacts, for 10 s at most (120 s
/// together with artifacts); `troupe sync` sends what is left (mlflow_sync.hpp). A full disk costs records, with a
/// warning, and no run.
///
/// Used from one thread at a time. Its functions throw nothing.
class MlflowSink : public Sink {
 public:
  /// Reads MLFLOW_TRACKING_URI from the environment if options.mlflow.uri is empty. Throws UsageError for an address
  /// that is none, for options that no server takes, for a folder whose mlflow.json belongs to another server, and if
  /// the folder cannot be written.
  explicit MlflowSink(const SinkPlace& place, MlflowPatience patience = {});
  /// Like a flush at the end. Artifacts that files_are_complete was not called for are left to `troupe sync`: they may
  /// not be complete.
  ~MlflowSink() override;
  MlflowSink(const MlflowSink&) = delete;
  MlflowSink& operator=(const MlflowSink&) = delete;

  std::string name() const override { return "mlflow"; }
  void write(const Record& record) override;
  void flush() override;
  void files_are_complete() override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace troupe
