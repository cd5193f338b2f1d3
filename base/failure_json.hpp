// A failure on its way to another process.
#pragma once

#include "troupe/base/failure.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace troupe {

nlohmann::json to_json(const Failure& failure);
/// Throws nlohmann::json::exception for what to_json did not write.
Failure failure_from_json(const std::string& text);

}  // namespace troupe
