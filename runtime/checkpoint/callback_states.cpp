#include "troupe/runtime/checkpoint/callback_states.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/base/type_name.hpp"

#include <algorithm>
#include <typeinfo>

namespace troupe {

namespace {

std::string up_to_mark(const std::string& key) {
  return key.substr(0, key.find('#'));
}

// "callback 2 (troupe::EarlyStopping)", counted from 0 in the order of the run.
std::string place_in_run(const Callback& callback, std::size_t place) {
  return "callback " + std::to_string(place) + " (" + full_type_name(typeid(callback)) + ")";
}

}  // namespace

std::vector<std::string> state_keys(const std::vector<std::shared_ptr<Callback>>& callbacks) {
  std::vector<std::string> keys;
  for (const auto& callback : callbacks) {
    if (auto key = callback->state_key(); !key.empty()) keys.push_back(std::move(key));
  }
  return keys;
}

void check_state_keys(const std::vector<std::shared_ptr<Callback>>& callbacks) {
  for (std::size_t i = 0; i < callbacks.size(); ++i) {
    const auto key = callbacks[i]->state_key();
    if (key.empty()) continue;
    for (std::size_t k = 0; k < callbacks.size(); ++k) {
      const auto other = callbacks[k]->state_key();
      const bool is_same = k > i && other == key, is_below = other.starts_with(key + ".");
      if (!is_same && !is_below) continue;
      const auto keys = is_same ? "'" + shown(key) + "'" : "'" + shown(key) + "' and '" + shown(other) + "'";
      throw UsageError(place_in_run(*callbacks[i], i) + " and " + place_in_run(*callbacks[k], k) +
                       (is_same ? " have one state_key, " : " have the state_keys ") + keys +
                       ": a checkpoint has one place for both; give them options that differ, leave one out, or "
                       "override state_key");
    }
  }
}

std::string saved_key(const nlohmann::json& saved, const std::string& key, const std::vector<std::string>& running) {
  if (key.empty() || !saved.is_object()) return "";
  if (saved.contains(key)) return key;
  const auto base = up_to_mark(key);
  // Whether another callback of the run, without a state of its own, could be meant as well.
  const auto is_rival = [&](const std::string& other) {
    return other != key && up_to_mark(other) == base && !saved.contains(other);
  };
  if (std::ranges::any_of(running, is_rival)) return "";
  std::string found;
  for (const auto& item : saved.items()) {
    if (up_to_mark(item.key()) != base || std::ranges::find(running, item.key()) != running.end()) continue;
    if (!found.empty()) return "";
    found = item.key();
  }
  return found;
}

}  // namespace troupe
