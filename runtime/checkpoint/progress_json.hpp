// Progress and metrics in a checkpoint's metadata.
#pragma once

#include "troupe/base/state_reader.hpp"
#include "troupe/modules/progress.hpp"

#include <nlohmann/json.hpp>

namespace troupe {

nlohmann::json to_json(const Progress& progress);
/// Throws UsageError for what is not a Progress: a missing or negative counter.
Progress progress_from_json(const nlohmann::json& json);
/// The same of an object that is being read.
Progress progress_in(const StateReader& reader);

/// A number, or text for what JSON has no number for: "nan", "inf", "-inf".
nlohmann::json metric_to_json(double value);
nlohmann::json metrics_to_json(const MetricMap& metrics);
/// Throws UsageError for what metrics_to_json does not return.
MetricMap metrics_from_json(const nlohmann::json& json);

}  // namespace troupe
