// A failure on its way to another process, and in files.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/base/state_reader.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace troupe {

nlohmann::json to_json(const Failure& failure);
/// Throws UsageError for what to_json did not write.
Failure failure_in(const StateReader& reader);

}  // namespace troupe
