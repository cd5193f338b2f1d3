// Progress in a checkpoint's metadata.
#pragma once

#include "troupe/modules/progress.hpp"

#include <nlohmann/json.hpp>

namespace troupe {

nlohmann::json to_json(const Progress& progress);
/// Throws UsageError for what is not a Progress: a missing or negative counter.
Progress progress_from_json(const nlohmann::json& json);

}  // namespace troupe
