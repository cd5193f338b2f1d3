#include "troupe/base/failure_json.hpp"

namespace troupe {

nlohmann::json to_json(const Failure& failure) {
  return {{"rank", failure.rank}, {"host", failure.host},   {"device", failure.device},   {"stage", failure.stage},
          {"hook", failure.hook}, {"epoch", failure.epoch}, {"batch", failure.batch_idx}, {"message", failure.message}};
}

Failure failure_from_json(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  Failure failure;
  failure.rank = json.at("rank").get<int64_t>();
  failure.host = json.at("host").get<std::string>();
  failure.device = json.at("device").get<std::string>();
  failure.stage = json.at("stage").get<std::string>();
  failure.hook = json.at("hook").get<std::string>();
  failure.epoch = json.at("epoch").get<int64_t>();
  failure.batch_idx = json.at("batch").get<int64_t>();
  failure.message = json.at("message").get<std::string>();
  return failure;
}

}  // namespace troupe
