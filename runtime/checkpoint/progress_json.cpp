#include "troupe/runtime/checkpoint/progress_json.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/saved_count.hpp"
#include "troupe/runtime/checkpoint/keys.hpp"

namespace troupe {

namespace {

int64_t counter(const nlohmann::json& json, const char* name) {
  const auto found = json.find(name);
  if (found == json.end() || !is_saved_count(*found)) {
    throw UsageError("the checkpoint's progress." + std::string(name) + " is " +
                     (found == json.end() ? "missing" : found->dump()) + ", not a count");
  }
  return found->get<int64_t>();
}

}  // namespace

nlohmann::json to_json(const Progress& progress) {
  return {{"epoch", progress.epoch},
          {"batch_idx", progress.batch_idx},
          {metadata_key::global_step, progress.global_step},
          {"total_batches", progress.total_batches},
          {"log_step", progress.log_step}};
}

Progress progress_from_json(const nlohmann::json& json) {
  if (!json.is_object()) throw UsageError("the checkpoint's progress is not a JSON object");
  const auto global_step = counter(json, metadata_key::global_step);
  // Files of the first version have none; their runs had one optimizer.
  const auto log_step = json.contains("log_step") ? counter(json, "log_step") : global_step;
  return {counter(json, "epoch"), counter(json, "batch_idx"), global_step, counter(json, "total_batches"), log_step};
}

}  // namespace troupe
