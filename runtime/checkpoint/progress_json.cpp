#include "troupe/runtime/checkpoint/progress_json.hpp"

#include "troupe/modules/failure.hpp"

namespace troupe {

namespace {

int64_t counter(const nlohmann::json& json, const char* name) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number_integer() || found->get<int64_t>() < 0) {
    throw UsageError("the checkpoint's progress." + std::string(name) + " is " +
                     (found == json.end() ? "missing" : found->dump()) + ", not a count");
  }
  return found->get<int64_t>();
}

}  // namespace

nlohmann::json to_json(const Progress& progress) {
  return {{"epoch", progress.epoch},
          {"batch_idx", progress.batch_idx},
          {"global_step", progress.global_step},
          {"total_batches", progress.total_batches}};
}

Progress progress_from_json(const nlohmann::json& json) {
  if (!json.is_object()) throw UsageError("the checkpoint's progress is not a JSON object");
  return {counter(json, "epoch"), counter(json, "batch_idx"), counter(json, "global_step"),
          counter(json, "total_batches")};
}

}  // namespace troupe
