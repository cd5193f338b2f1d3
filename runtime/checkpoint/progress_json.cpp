#include "troupe/runtime/checkpoint/progress_json.hpp"

#include "troupe/runtime/checkpoint/keys.hpp"

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

}  // namespace troupe
