// Keys for the states of callbacks of which a run may have several.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

namespace troupe {

/// `name{...}` of the options that a state is worth nothing without, then '#' and those that only tell two callbacks of
/// one kind apart and are not at their defaults, as JSON (Callback::state_key).
///
///     StateKey("Timer").add("interval", name_of(options_.interval), name_of(TimerInterval::step)).text()
class StateKey {
 public:
  explicit StateKey(std::string base) : base_(std::move(base)) {}

  template <class T>
  StateKey& add(const char* name, const T& value, const T& usual) {
    if (value != usual) others_[name] = json_of(value);
    return *this;
  }
  /// Bytes that are not UTF-8 are replaced.
  std::string text() const {
    constexpr auto replace = nlohmann::json::error_handler_t::replace;
    return others_.empty() ? base_ : base_ + '#' + others_.dump(-1, ' ', false, replace);
  }

 private:
  template <class T>
  static nlohmann::json json_of(const T& value) {
    return value;
  }
  template <class T>
  static nlohmann::json json_of(const std::optional<T>& value) {
    return value ? json_of(*value) : nlohmann::json();
  }
  static nlohmann::json json_of(const std::filesystem::path& value) { return value.string(); }

  std::string base_;
  nlohmann::json others_ = nlohmann::json::object();
};

}  // namespace troupe
