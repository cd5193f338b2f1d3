// What <run>/failure.json holds.
#pragma once

#include "troupe/base/failure.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace troupe {

/// {"rank", "host", "device", "stage", "hook", "epoch", "batch", "message", "signal": name or null, "time": seconds
/// since 1970}. `signal`: that ended the process ("SIGSEGV"); empty: none did.
nlohmann::json failure_file(const Failure& failure, const std::string& signal, double time);

}  // namespace troupe
