// Sends what an MLflow server has missed of a run, when the run is over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace troupe {

/// What is about to be sent.
struct SyncPlan {
  int64_t waiting = 0;  ///< records
  std::string address;  ///< of the server
  std::string run_id;   ///< empty: a run that is looked for or made there
  std::string experiment, run_name;
};

struct SyncOptions {
  double timeout = 30;      ///< seconds that one request may take; for a file, without a byte moved
  std::string uri = "";     ///< http_address's: the server is there now; empty: as mlflow.json says
  std::string run_id = "";  ///< goes to this run instead, or to one that is made (new_mlflow_run); empty: as it says
  // Called on the same thread; each may be empty.
  std::function<void(const SyncPlan&)> on_begin = {};
  std::function<void(int64_t sent, int64_t waiting)> on_progress = {};
  std::function<void(const std::string& name)> on_file = {};  ///< before a file is sent
};

inline constexpr const char* new_mlflow_run = "new";

struct SyncResult {
  int64_t sent = 0;     ///< records that the server has got now
  int64_t waiting = 0;  ///< records that it has not
  std::string run_id;   ///< of the server; empty if it is not known yet
  std::string address;  ///< of the server
  std::string problem;  ///< why some wait, a sentence; empty if all is there
};

/// Sends the rest of <run_folder>/mlflow.spool, also of a run that was killed: a last line that was cut short is left
/// out, and a run that the server takes for a running one becomes FAILED and gets the files that mlflow.artifacts asks
/// for. May be called again; what the server has is not sent twice. `problem` says so if the server does not answer or
/// the run still goes on: the first request that gets no answer in time ends it. With `uri` or `run_id` mlflow.json
/// says so from then on, if something was sent; what was sent before is not sent there.
///
/// Credentials of the environment (mlflow_sender.hpp) are sent only if MLFLOW_TRACKING_URI names the same server or
/// `uri` is given: the folder may be a stranger's. Throws UsageError, with the path, for a folder whose run was not
/// logged to MLflow, and for files that are damaged; FileError.
SyncResult sync_run(const std::filesystem::path& run_folder, const SyncOptions& options = {});

}  // namespace troupe
