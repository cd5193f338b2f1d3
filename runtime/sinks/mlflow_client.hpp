// What a run asks of an MLflow server: version 2.0 of its REST API (https://mlflow.org/docs/latest/rest-api.html),
// tried with servers of 3.17 and 3.18.
#pragma once

#include "troupe/modules/options/choices.hpp"
#include "troupe/runtime/sinks/http_client.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace troupe {

/// Times are milliseconds since 1970.
struct MlflowMetric {
  std::string key;
  double value = 0;
  int64_t time = 0, step = 0;
};

/// Keys with values.
using MlflowTexts = std::vector<std::pair<std::string, std::string>>;

/// What one request of log-batch carries: at most 1,000 metrics, 100 params, 100 tags and 1,000 in all.
struct MlflowBatch {
  std::vector<MlflowMetric> metrics;
  MlflowTexts params, tags;

  std::size_t size() const { return metrics.size() + params.size() + tags.size(); }
};

/// The words that a server knows. It takes others too, and ignores them.
enum class MlflowStatus { running, scheduled, finished, failed, killed };
TROUPE_CHOICES(MlflowStatus, {running, "RUNNING"}, {scheduled, "SCHEDULED"}, {finished, "FINISHED"}, {failed, "FAILED"},
               {killed, "KILLED"})

/// The status called `word`; none if there is no such word.
std::optional<MlflowStatus> mlflow_status(const std::string& word);

/// Whether `id` has the form of a run's id.
bool is_mlflow_run_id(const std::string& id);

struct MlflowRun {
  std::string id;
  std::string status;
  bool is_deleted = false;
  std::string artifact_uri;
};

/// The server answered, and not with what was asked for. what() is a sentence that says what, with the address.
class MlflowError : public std::runtime_error {
 public:
  MlflowError(const std::string& text, long status, std::string code)
      : std::runtime_error(text), status_(status), code_(std::move(code)) {}
  /// Of HTTP.
  long status() const { return status_; }
  /// MLflow's own, "RESOURCE_DOES_NOT_EXIST"; empty if it said none.
  const std::string& code() const { return code_; }
  /// Whether it refuses a value, or so many of them (a proxy has a limit), and would the next time too.
  bool refuses_value() const { return status_ == 413 || (status_ == 400 && code_ == "INVALID_PARAMETER_VALUE"); }

 private:
  long status_;
  std::string code_;
};

/// Threads are as HttpClient says. Each function waits for the server, and throws HttpError and MlflowError.
class MlflowClient {
 public:
  /// `address` is http_address's.
  MlflowClient(std::string address, HttpOptions options);

  /// The id of the experiment, which is made if there is none.
  std::string experiment(const std::string& name);
  /// The run of an experiment that was created with `key`: a request whose answer got lost is not made twice.
  std::optional<MlflowRun> find_run(const std::string& experiment_id, const std::string& key);
  MlflowRun create_run(const std::string& experiment_id, const std::string& run_name, int64_t start_time,
                       const std::string& key);
  MlflowRun run(const std::string& id);
  /// Values are stored as they are sent; keys, and what is too long, are the caller's business. With an answer of 200
  /// everything in `batch` is there, unless it is something that this type cannot hold.
  void log_batch(const std::string& run_id, const MlflowBatch& batch);
  /// Throws MlflowError too if the server's answer has another status than the one that was sent.
  void set_status(const std::string& run_id, MlflowStatus status, std::optional<int64_t> end_time);
  /// Sends the file as `name` ("checkpoints/best.safetensors"), through the server. False if the server keeps the
  /// artifacts of this run at a place that only MLflow's own client can send to.
  bool put_artifact(const MlflowRun& run, const std::filesystem::path& file, const std::string& name);

  void abort() { http_.abort(); }
  bool is_aborted() const { return http_.is_aborted(); }
  const std::string& address() const { return address_; }

 private:
  std::string url(const std::string& path) const;
  nlohmann::json get(const std::string& path);
  nlohmann::json post(const std::string& path, const nlohmann::json& body);
  std::optional<std::string> find_experiment(const std::string& name);

  std::string address_;
  HttpClient http_;
};

}  // namespace troupe
