// Takes what is in a run's spool to the MLflow server.
#pragma once

#include "troupe/runtime/sinks/mlflow_client.hpp"
#include "troupe/runtime/sinks/mlflow_spool.hpp"

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace troupe {

/// Used from one thread; abort() may be called from others. Whatever it has sent is written down in mlflow.json, so
/// that it is not sent again; where that comes too late, sending it again changes nothing.
class MlflowSender {
 public:
  using Warn = std::function<void(const std::string&)>;

  /// `spool` must stay. `warn` gets a sentence for each kind of value that the server does not take, once.
  MlflowSender(std::filesystem::path run_folder, MlflowState state, MlflowSpool& spool, HttpOptions http, Warn warn);

  /// Sends some of what waits, and makes the run if there is none yet; false if nothing waits. Throws HttpError and
  /// MlflowError: what was sent before that counts, and a later call goes on there.
  bool send_some();
  /// For a run that nobody writes any more and that the server takes for a running one.
  void end_as(MlflowStatus status, int64_t time);
  /// config.toml, run.json, report.html and the best checkpoint of a run that the server has, as they are now. Throws
  /// HttpError and MlflowError.
  void send_files();
  /// `tell` gets the name of each file before it is sent.
  void on_file(std::function<void(const std::string& name)> tell) { on_file_ = std::move(tell); }

  void abort() { client_.abort(); }
  bool is_aborted() const { return client_.is_aborted(); }
  /// Of the thread that sends.
  const MlflowState& state() const { return state_; }

 private:
  void find_run();
  void check_run();
  void send(const std::vector<SpoolEntry>& entries);
  void send_batch(const MlflowBatch& batch);
  void send_in_parts(const MlflowBatch& batch, const std::string& why);
  void send_refused(const MlflowBatch& batch, const std::string& why);
  bool send_artifact(const MlflowRun& run, const std::filesystem::path& file, const std::string& name);
  void warn_once(const std::string& kind, const std::string& text);

  std::filesystem::path folder_;
  MlflowState state_;
  MlflowSpool& spool_;
  MlflowClient client_;
  Warn warn_;
  std::function<void(const std::string&)> on_file_;
  std::set<std::string> warned_;
  bool has_run_ = false;
};

/// What requests are made with; the credentials are those of the environment that MLflow's own client takes
/// (https://mlflow.org/docs/latest/self-hosting/security/basic-http-auth/):
///
/// | variable | meaning |
/// |---|---|
/// | MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD | basic authentication, if both are set |
/// | MLFLOW_TRACKING_TOKEN | a bearer token, if they are not |
HttpOptions mlflow_http_options(double timeout, const std::string& version);

}  // namespace troupe
