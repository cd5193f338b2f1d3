#include "troupe/runtime/checkpoint/progress_json.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

#include <cmath>

namespace troupe {

nlohmann::json to_json(const Progress& progress) {
  return {{"epoch", progress.epoch},
          {"batch_idx", progress.batch_idx},
          {metadata_key::global_step, progress.global_step},
          {"total_batches", progress.total_batches},
          {"log_step", progress.log_step}};
}

Progress progress_from_json(const nlohmann::json& json) {
  return progress_in(StateReader(json, "the checkpoint's progress"));
}

Progress progress_in(const StateReader& reader) {
  return {.epoch = reader.count("epoch"),
          .batch_idx = reader.count("batch_idx"),
          .global_step = reader.count(metadata_key::global_step),
          .total_batches = reader.count("total_batches"),
          .log_step = reader.count("log_step")};
}

nlohmann::json metric_to_json(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(double_to_text(value));
}

nlohmann::json metrics_to_json(const MetricMap& metrics) {
  auto json = nlohmann::json::object();
  for (const auto& [name, value] : metrics) json[name] = metric_to_json(value);
  return json;
}

MetricMap metrics_from_json(const nlohmann::json& json) {
  MetricMap metrics;
  if (!json.is_object()) throw UsageError("the checkpoint's metrics are not an object");
  for (const auto& [name, value] : json.items()) {
    const auto text = value.is_string() ? value.get<std::string>() : "";
    const bool is_odd = text == "nan" || text == "inf" || text == "-inf";
    if (!value.is_number() && !is_odd) {
      throw UsageError("the checkpoint's metric " + shown(name) + " is not a number");
    }
    metrics[name] = value.is_number() ? value.get<double>() : *number_from_text<double>(text);
  }
  return metrics;
}

}  // namespace troupe
