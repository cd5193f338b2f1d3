// Sends what an MLflow server has missed of a run, when the run is over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace troupe {

struct SyncResult {
  int64_t sent = 0;     ///< records that the server has got now
  int64_t waiting = 0;  ///< records that it has not
  std::string run_id;   ///< of the server; empty if it is not known yet
  std::string address;  ///< of the server
  std::string problem;  ///< why some wait, a sentence; empty if all is there
};

/// Sends the rest of <run_folder>/mlflow.spool, also of a run that was killed: a last line that was cut short is left
/// out, and a run that the server takes for a running one becomes FAILED. May be called again; what the server has is
/// not sent twice. `problem` says so if the server does not answer or the run still goes on.
///
/// Credentials of the environment (mlflow_sender.hpp) are sent only if MLFLOW_TRACKING_URI names the same server: the
/// folder may be a stranger's. Throws UsageError, with the path, for a folder whose run was not logged to MLflow, and
/// for files that are damaged; FileError.
SyncResult sync_run(const std::filesystem::path& run_folder);

}  // namespace troupe
