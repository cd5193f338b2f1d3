// Values saved in a checkpoint, which may be a stranger's: read with their types and ranges checked.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace troupe {

/// The largest whole number that every reader of JSON can carry (RFC 8259, section 6); a run has room to count on from
/// there.
inline constexpr int64_t largest_saved_count = (int64_t{1} << 53) - 1;

/// Reads the members of one JSON object. Whatever is missing, of another type or out of range throws CheckpointError:
/// "the checkpoint's state of Timer is damaged: time_elapsed.fit is not a number: null". Refers to the object, which
/// must stay.
///
///     const StateReader reader(state, "the checkpoint's state of Timer");
///     const int64_t steps = reader.count("steps");
class StateReader {
 public:
  /// `what` is the subject of errors. Throws unless `state` is an object.
  StateReader(const nlohmann::json& state, std::string what);

  const nlohmann::json& json() const { return state_; }
  bool has(const char* key) const { return state_.contains(key); }
  std::string text(const char* key) const;
  bool flag(const char* key) const;
  /// A whole number from `least` to `most`.
  int64_t count(const char* key, int64_t least = 0, int64_t most = largest_saved_count) const;
  /// A finite number.
  double number(const char* key) const;
  /// Nothing if the value is null; it must be there.
  std::optional<int64_t> optional_count(const char* key) const;
  std::optional<double> optional_number(const char* key) const;
  std::vector<std::string> texts(const char* key) const;
  std::vector<double> numbers(const char* key) const;

  /// An object in this one, and a list of objects; errors name the way to them: "groups[1].lr".
  StateReader object(const char* key) const;
  std::vector<StateReader> objects(const char* key) const;
  /// A list, whatever it holds.
  const nlohmann::json& list(const char* key) const;

  /// Throws CheckpointError: "<what> is damaged: <why>".
  [[noreturn]] void refuse(const std::string& why) const;

 private:
  StateReader(const nlohmann::json& state, std::string what, std::string path);

  /// The value at `key`; null if there is none.
  const nlohmann::json& at(const char* key) const;
  /// "<what> is damaged: <path><key> is not <wanted>: <value>"
  [[noreturn]] void refuse(const char* key, const char* wanted) const;

  const nlohmann::json& state_;
  std::string what_;
  std::string path_;  // "groups[1].", empty for the outermost object
};

}  // namespace troupe
