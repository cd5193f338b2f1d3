#include "troupe/base/failure_json.hpp"

#include "troupe/base/text.hpp"

namespace troupe {

nlohmann::json to_json(const Failure& failure) {
  return {{"rank", failure.rank},       {"host", failure.host},
          {"device", failure.device},   {"stage", failure.stage},
          {"hook", failure.hook},       {"epoch", failure.epoch},
          {"batch", failure.batch_idx}, {"message", valid_utf8(failure.message)}};
}

Failure failure_in(const StateReader& reader) {
  Failure failure;
  failure.rank = reader.count("rank");
  failure.host = reader.text("host");
  failure.device = reader.text("device");
  failure.stage = reader.text("stage");
  failure.hook = reader.text("hook");
  failure.epoch = reader.count("epoch", -1);
  failure.batch_idx = reader.count("batch", -1);
  failure.message = reader.text("message");
  return failure;
}

}  // namespace troupe
