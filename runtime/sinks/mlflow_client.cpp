#include "troupe/runtime/sinks/mlflow_client.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_json.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"

#include <algorithm>

namespace troupe {

namespace {

// The tag that a run is found again by.
constexpr const char* kRunKeyTag = "troupe.key";

nlohmann::json parsed_mlflow_answer(const std::string& body) {
  try {
    return parse_strict_json(body);
  } catch (const UsageError&) {
    return nullptr;
  }
}

std::string mlflow_text(const nlohmann::json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

const nlohmann::json& mlflow_object(const nlohmann::json& json, const char* key) {
  static const nlohmann::json none = nlohmann::json::object();
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found != json.end() && found->is_object() ? *found : none;
}

std::string host_in_address(const std::string& address) {
  const auto begin = address.find("://") + 3;
  return address.substr(begin, address.find_first_of(":/", begin) - begin);
}

std::string mlflow_said(const std::string& body, const nlohmann::json& json) {
  const auto message = mlflow_text(json, "message");
  const auto text = message.empty() ? body : message;
  return text.empty() ? "without a text" : "'" + shown(text) + "'";
}

[[noreturn]] void refuse_answer(const HttpAnswer& answer, const std::string& url, const std::string& address) {
  const auto json = parsed_mlflow_answer(answer.body);
  auto text = url + " answers " + std::to_string(answer.status) + " " + mlflow_said(answer.body, json);
  if (answer.status == 403 && answer.body.find("Invalid Host header") != std::string::npos) {
    text = address + " refuses to be called by the name " + host_in_address(address) +
           ": start its server with --allowed-hosts " + host_in_address(address) + ", or call it by its number";
  } else if (!answer.location.empty()) {
    text = url + " is at " + shown(answer.location) + " now: let mlflow.uri say so";
  } else if (answer.status == 401) {
    text = url + " wants credentials: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN";
  } else if (answer.status == 404 && mlflow_text(json, "error_code").empty()) {
    text = url + " is not there: " + address + " is the address of something other than an MLflow server";
  }
  throw MlflowError(text, answer.status, mlflow_text(json, "error_code"));
}

// A login page or a proxy answers 200 too.
nlohmann::json object_answered(const HttpAnswer& answer, const std::string& url, const std::string& address) {
  if (answer.status != 200) refuse_answer(answer, url, address);
  auto json = parsed_mlflow_answer(answer.body);
  if (!json.is_object()) {
    throw MlflowError(url + " answers with what no MLflow server says: " + mlflow_said(answer.body, nullptr),
                      answer.status, "");
  }
  return json;
}

MlflowRun run_in_answer(const nlohmann::json& json, const std::string& url) {
  const auto& info = mlflow_object(json, "info");
  MlflowRun run{mlflow_text(info, "run_id"), mlflow_text(info, "status"),
                mlflow_text(info, "lifecycle_stage") == "deleted", mlflow_text(info, "artifact_uri")};
  if (!is_mlflow_run_id(run.id)) throw MlflowError(url + " answers with a run that has no id", 200, "");
  return run;
}

nlohmann::json keys_and_values(const MlflowTexts& texts) {
  auto list = nlohmann::json::array();
  for (const auto& [key, value] : texts) list.push_back({{"key", key}, {"value", value}});
  return list;
}

}  // namespace

std::optional<MlflowStatus> mlflow_status(const std::string& word) {
  const auto choices = choices_of<MlflowStatus>();
  const auto found = std::ranges::find(choices, word, &Choice::name);
  return found == choices.end() ? std::nullopt : std::optional(static_cast<MlflowStatus>(found->value));
}

bool is_mlflow_run_id(const std::string& id) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !id.empty() && id.size() <= 256 && is_letter(id[0]) &&
         std::ranges::all_of(id, [&](char c) { return is_letter(c) || c == '_' || c == '-'; });
}

MlflowClient::MlflowClient(std::string address, HttpOptions options)
    : address_(std::move(address)), http_(std::move(options)) {}

std::string MlflowClient::url(const std::string& path) const {
  return address_ + "/api/2.0/" + path;
}

nlohmann::json MlflowClient::get(const std::string& path) {
  const auto at = url(path);
  return object_answered(http_.get(at), at, address_);
}

nlohmann::json MlflowClient::post(const std::string& path, const nlohmann::json& body) {
  const auto at = url(path);
  return object_answered(http_.post_json(at, body.dump()), at, address_);
}

std::optional<std::string> MlflowClient::find_experiment(const std::string& name) {
  nlohmann::json answer;
  try {
    answer = get("mlflow/experiments/get-by-name?experiment_name=" + url_escaped(name));
  } catch (const MlflowError& error) {
    if (error.code() == "RESOURCE_DOES_NOT_EXIST") return std::nullopt;
    throw;
  }
  const auto& experiment = mlflow_object(answer, "experiment");
  if (mlflow_text(experiment, "lifecycle_stage") == "deleted") {
    throw MlflowError("the experiment '" + shown(name) + "' was deleted on " + address_ +
                          ": restore it there, or give another mlflow.experiment",
                      200, "");
  }
  auto id = mlflow_text(experiment, "experiment_id");
  if (!is_mlflow_run_id(id)) throw MlflowError(address_ + " answers with an experiment that has no id", 200, "");
  return id;
}

std::string MlflowClient::experiment(const std::string& name) {
  if (auto id = find_experiment(name)) return *id;
  try {
    post("mlflow/experiments/create", {{"name", name}});
  } catch (const MlflowError& error) {
    if (error.code() != "RESOURCE_ALREADY_EXISTS") throw;  // another run was faster
  }
  if (auto id = find_experiment(name)) return *id;
  throw MlflowError(address_ + " does not keep the experiment '" + shown(name) + "'", 200, "");
}

std::optional<MlflowRun> MlflowClient::find_run(const std::string& experiment_id, const std::string& key) {
  const auto answer = post("mlflow/runs/search", {{"experiment_ids", {experiment_id}},
                                                  {"filter", std::string("tags.`") + kRunKeyTag + "` = '" + key + "'"},
                                                  {"max_results", 1}});
  const auto runs = answer.find("runs");
  if (runs == answer.end() || !runs->is_array() || runs->empty()) return std::nullopt;
  return run_in_answer((*runs)[0], url("mlflow/runs/search"));
}

MlflowRun MlflowClient::create_run(const std::string& experiment_id, const std::string& run_name, int64_t start_time,
                                   const std::string& key) {
  const auto tags = keys_and_values({{kRunKeyTag, key}});
  const auto answer =
      post("mlflow/runs/create",
           {{"experiment_id", experiment_id}, {"start_time", start_time}, {"run_name", run_name}, {"tags", tags}});
  return run_in_answer(mlflow_object(answer, "run"), url("mlflow/runs/create"));
}

MlflowRun MlflowClient::run(const std::string& id) {
  const auto path = "mlflow/runs/get?run_id=" + url_escaped(id);
  return run_in_answer(mlflow_object(get(path), "run"), url(path));
}

void MlflowClient::log_batch(const std::string& run_id, const MlflowBatch& batch) {
  auto metrics = nlohmann::json::array();
  for (const auto& metric : batch.metrics) {
    metrics.push_back({{"key", metric.key},
                       {"value", number_to_json(metric.value)},
                       {"timestamp", metric.time},
                       {"step", metric.step}});
  }
  post("mlflow/runs/log-batch", {{"run_id", run_id},
                                 {"metrics", metrics},
                                 {"params", keys_and_values(batch.params)},
                                 {"tags", keys_and_values(batch.tags)}});
}

void MlflowClient::set_status(const std::string& run_id, MlflowStatus status, std::optional<int64_t> end_time) {
  nlohmann::json body = {{"run_id", run_id}, {"status", name_of(status)}};
  if (end_time) body["end_time"] = *end_time;
  const auto answer = post("mlflow/runs/update", body);
  const auto is = mlflow_text(mlflow_object(answer, "run_info"), "status");
  if (is != name_of(status)) {
    throw MlflowError(
        address_ + " keeps the status '" + shown(is) + "' of the run, though " + name_of(status) + " was sent", 200,
        "");
  }
}

bool MlflowClient::put_artifact(const MlflowRun& run, const std::filesystem::path& file, const std::string& name) {
  // mlflow-artifacts:/1/<run>/artifacts, or with the server's name behind two more slashes.
  const std::string scheme = "mlflow-artifacts:";
  if (!run.artifact_uri.starts_with(scheme)) return false;
  auto root = run.artifact_uri.substr(scheme.size());
  if (root.starts_with("//")) root.erase(0, std::min(root.find('/', 2), root.size()));
  std::string path;
  for (const auto& part : std::filesystem::path(root + "/" + name)) {
    if (part != "/" && !part.empty()) path += "/" + url_escaped(part.string());
  }
  const auto at = url("mlflow-artifacts/artifacts" + path);
  const auto answer = http_.put_file(at, file);
  if (answer.status != 200) refuse_answer(answer, at, address_);
  return true;
}

}  // namespace troupe
