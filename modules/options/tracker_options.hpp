// Where trackers are, for the loggers that `trainer.loggers` names.
#pragma once

#include "troupe/modules/options/options.hpp"

#include <cstdint>
#include <filesystem>
#include <string>

namespace troupe {

/// Of the logger `mlflow` (https://mlflow.org/docs/latest/rest-api.html).
struct MlflowOptions {
  /// "http://localhost:5000"; empty: what the environment's MLFLOW_TRACKING_URI says.
  std::string uri = "";
  /// Empty: the run's name.
  std::string experiment = "";
  /// Empty: "version_N".
  std::string run_name = "";
  /// Of a run that is there already; empty: a new one.
  std::string run_id = "";
  /// The best checkpoint, the configuration and the page, when the run ends.
  bool artifacts = false;
  double timeout = 10;
};
TROUPE_OPTIONS(MlflowOptions,
               (uri, "address of the MLflow server; empty: what MLFLOW_TRACKING_URI in the environment says"),
               (experiment, "experiment that the run belongs to; empty: the run's name"),
               (run_name, "the run's name there; empty: its version"),
               (run_id, "go on with this run of the server; empty: a new one"),
               (artifacts, "send the best checkpoint, the configuration and the page when the run ends"),
               (timeout, "seconds that one request may take"))

/// Of the logger `trackio` (https://github.com/gradio-app/trackio).
struct TrackioOptions {
  /// Empty: the run's name.
  std::string project = "";
  /// Empty: "version_N".
  std::string run_name = "";
  /// Empty: what the environment's TRACKIO_DIR says, else Trackio's own.
  std::filesystem::path dir = "";
};
TROUPE_OPTIONS(TrackioOptions, (project, "project that the run belongs to; empty: the run's name"),
               (run_name, "the run's name there; empty: its version"),
               (dir, "folder of the projects; empty: what TRACKIO_DIR in the environment says, else Trackio's own"))

}  // namespace troupe
