// The part of an MLflow server that a run talks to, in memory, as 3.17 answers.
#pragma once

#include "tests/support/http_server.hpp"

#include <nlohmann/json.hpp>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>

namespace troupe {

class FakeMlflow {
 public:
  /// Answers in place of the server, if it returns something.
  using Trouble = std::function<std::string(const HttpRequest&)>;

  explicit FakeMlflow(int port = 0) { start(port); }

  std::string address() const { return server_->address(); }
  int port() const { return server_->port(); }
  /// What it has stays.
  void stop() { server_ = nullptr; }
  void start(int port) {
    server_ = std::make_unique<HttpServer>([this](const HttpRequest& request) { return answer(request); }, port);
  }
  void set_trouble(Trouble trouble) {
    const std::scoped_lock lock(mutex_);
    trouble_ = std::move(trouble);
  }
  template <class Condition>
  void wait_for(Condition condition) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, condition);
  }

  /// This, for reading while nobody sends.
  const FakeMlflow& seen() const {
    const std::scoped_lock lock(mutex_);
    return *this;
  }

  // Of the run, of which there is one.
  std::string status;
  int64_t end_time = 0;
  int created = 0;
  bool is_deleted = false;
  std::multiset<std::tuple<std::string, std::string, int64_t, int64_t>> metrics;  ///< key, value, step, time
  std::map<std::string, std::string> params, tags, files;

  /// "loss=0.5@3 ..." in alphabetical order.
  std::string metrics_text() const {
    std::string text;
    for (const auto& [key, value, step, time] : metrics) text += key + "=" + value + "@" + std::to_string(step) + " ";
    return text;
  }

 private:
  static std::string refuse(int status, const std::string& code, const std::string& message) {
    return http_response(status, nlohmann::json{{"error_code", code}, {"message", message}}.dump());
  }
  std::string info() const {
    const nlohmann::json run = {{"run_id", "abc0"},
                                {"status", status},
                                {"lifecycle_stage", is_deleted ? "deleted" : "active"},
                                {"artifact_uri", "mlflow-artifacts:/1/abc0/artifacts"}};
    return run.dump();
  }

  std::string answer(const HttpRequest& request) {
    const std::scoped_lock lock(mutex_);
    if (trouble_) {
      if (auto text = trouble_(request); text != "go on") return text;
    }
    auto text = answer_locked(request);
    changed_.notify_all();
    return text;
  }

  std::string answer_locked(const HttpRequest& request) {
    const auto is = [&](const std::string& path) { return request.path.starts_with("/api/2.0/mlflow/" + path); };
    const std::string files_path = "/api/2.0/mlflow-artifacts/artifacts/1/abc0/artifacts/";
    if (request.path.starts_with(files_path)) {
      files[request.path.substr(files_path.size())] = request.body;
      return http_response(200, "");
    }
    if (is("experiments/get-by-name")) {
      return has_experiment_ ? http_response(200, R"({"experiment":{"experiment_id":"1","lifecycle_stage":"active"}})")
                             : refuse(404, "RESOURCE_DOES_NOT_EXIST", "none");
    }
    if (is("runs/get")) return http_response(200, "{\"run\":{\"info\":" + info() + "}}");
    const auto body = nlohmann::json::parse(request.body);
    if (is("experiments/create")) {
      has_experiment_ = true;
      return http_response(200, R"({"experiment_id":"1"})");
    }
    if (is("runs/search")) {
      const bool is_there = created > 0 && body["filter"] == "tags.`troupe.key` = '" + key_ + "'";
      return http_response(200, is_there ? "{\"runs\":[{\"info\":" + info() + "}]}" : "{}");
    }
    if (is("runs/create")) {
      ++created;
      status = "RUNNING";
      key_ = body["tags"][0]["value"];
      return http_response(200, "{\"run\":{\"info\":" + info() + "}}");
    }
    if (is("runs/update")) {
      status = body["status"];
      end_time = body.value("end_time", end_time);
      return http_response(200, "{\"run_info\":" + info() + "}");
    }
    return log_batch(body);
  }

  // All or nothing, as the real one.
  std::string log_batch(const nlohmann::json& body) {
    if (is_deleted) return refuse(400, "INVALID_PARAMETER_VALUE", "must be in the 'active' state");
    if (body["metrics"].size() > 1000 || body["params"].size() > 100 || body["tags"].size() > 100) {
      return refuse(400, "INVALID_PARAMETER_VALUE", "too many");
    }
    for (const auto& param : body["params"]) {
      const auto known = params.find(param["key"]);
      if (known != params.end() && known->second != param["value"]) {
        return refuse(400, "INVALID_PARAMETER_VALUE", "Changing param values is not allowed");
      }
    }
    for (const auto& metric : body["metrics"]) {
      if (metric["key"] == "refused") return refuse(400, "INVALID_PARAMETER_VALUE", "I do not like it");
    }
    for (const auto& param : body["params"]) params[param["key"]] = param["value"];
    for (const auto& tag : body["tags"]) tags[tag["key"]] = tag["value"];
    for (const auto& metric : body["metrics"]) {
      const auto& value = metric["value"];
      const auto point =
          std::make_tuple(metric["key"].get<std::string>(), value.is_string() ? value.get<std::string>() : value.dump(),
                          metric["step"].get<int64_t>(), metric["timestamp"].get<int64_t>());
      if (!metrics.contains(point)) metrics.insert(point);
    }
    return http_response(200, "{}");
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Trouble trouble_;
  bool has_experiment_ = false;
  std::string key_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace troupe
