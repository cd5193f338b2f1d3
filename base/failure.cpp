#include "troupe/base/failure.hpp"

namespace troupe {

std::string Failure::describe() const {
  std::string where;
  const auto add = [&](const std::string& part) {
    if (part.empty()) return;
    if (!where.empty()) where += ", ";
    where += part;
  };
  add(hook.empty() ? "" : "in " + hook);
  add(stage.empty() ? "" : "stage " + stage);
  add(epoch < 0 ? "" : "epoch " + std::to_string(epoch));
  add(batch_idx < 0 ? "" : "batch " + std::to_string(batch_idx));
  add("rank " + std::to_string(rank) + (host.empty() ? "" : " on " + host));
  add(device);
  return message + " (" + where + ")";
}

}  // namespace troupe
