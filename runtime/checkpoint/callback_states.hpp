// Which state of a checkpoint is which callback's.
#pragma once

#include "troupe/modules/callback.hpp"

#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace troupe {

/// Of those that have one, in their order.
std::vector<std::string> state_keys(const std::vector<std::shared_ptr<Callback>>& callbacks);

/// Throws UsageError, with both callbacks and the key, where two would have one place in a checkpoint: equal keys, or a
/// key that goes on behind another one and a point, as the names of tensors do.
void check_state_keys(const std::vector<std::shared_ptr<Callback>>& callbacks);

/// The key in `saved`, an object, whose state is that of the callback with `key`; empty: none is. It is `key`; or else,
/// where both have one that nobody else takes, the one that is equal up to '#' (Callback::state_key). `running` are the
/// keys of the run.
std::string saved_key(const nlohmann::json& saved, const std::string& key, const std::vector<std::string>& running);

}  // namespace troupe
