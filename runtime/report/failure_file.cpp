#include "troupe/runtime/report/failure_file.hpp"

#include "troupe/base/failure_json.hpp"

namespace troupe {

nlohmann::json failure_file(const Failure& failure, const std::string& signal, double time) {
  nlohmann::json json = to_json(failure);
  json["signal"] = signal.empty() ? nlohmann::json() : nlohmann::json(signal);
  json["time"] = time;
  return json;
}

}  // namespace troupe
