#include "troupe/base/state_reader.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <cmath>

namespace troupe {

namespace {

bool is_count(const nlohmann::json& value, int64_t least, int64_t most) {
  if (!value.is_number_integer()) return false;
  const auto count = value.get<int64_t>();  // what is beyond its range comes out negative
  const bool overflowed = value.is_number_unsigned() && count < 0;
  return !overflowed && count >= least && count <= most;
}

bool is_finite_number(const nlohmann::json& value) {
  return value.is_number() && std::isfinite(value.get<double>());
}

}  // namespace

StateReader::StateReader(const nlohmann::json& state, std::string what) : StateReader(state, std::move(what), "") {}

StateReader::StateReader(const nlohmann::json& state, std::string what, std::string path)
    : state_(state), what_(std::move(what)), path_(std::move(path)) {
  if (state_.is_object()) return;
  refuse((path_.empty() ? "it" : path_.substr(0, path_.size() - 1)) + " is not an object");
}

const nlohmann::json& StateReader::at(const char* key) const {
  static const nlohmann::json nothing;
  const auto found = state_.find(key);
  return found == state_.end() ? nothing : *found;
}

std::string StateReader::text(const char* key) const {
  const auto& value = at(key);
  if (!value.is_string()) refuse(key, "a text");
  return value.get<std::string>();
}

bool StateReader::flag(const char* key) const {
  const auto& value = at(key);
  if (!value.is_boolean()) refuse(key, "true or false");
  return value.get<bool>();
}

int64_t StateReader::count(const char* key, int64_t least, int64_t most) const {
  const auto& value = at(key);
  if (!is_count(value, least, most)) refuse(key, "a count");
  return value.get<int64_t>();
}

double StateReader::number(const char* key) const {
  const auto& value = at(key);
  if (!is_finite_number(value)) refuse(key, "a number");
  return value.get<double>();
}

std::optional<int64_t> StateReader::optional_count(const char* key) const {
  if (has(key) && at(key).is_null()) return std::nullopt;
  return count(key);
}

std::optional<double> StateReader::optional_number(const char* key) const {
  if (has(key) && at(key).is_null()) return std::nullopt;
  return number(key);
}

std::vector<std::string> StateReader::texts(const char* key) const {
  const auto& values = list(key);
  if (!std::ranges::all_of(values, [](const auto& value) { return value.is_string(); })) refuse(key, "a list of texts");
  return values.get<std::vector<std::string>>();
}

std::vector<double> StateReader::numbers(const char* key) const {
  const auto& values = list(key);
  if (!std::ranges::all_of(values, is_finite_number)) refuse(key, "a list of numbers");
  return values.get<std::vector<double>>();
}

StateReader StateReader::object(const char* key) const {
  return {at(key), what_, path_ + key + "."};
}

std::vector<StateReader> StateReader::objects(const char* key) const {
  const auto& values = list(key);
  std::vector<StateReader> readers;
  for (std::size_t i = 0; i < values.size(); ++i) {
    readers.push_back({values[i], what_, path_ + key + "[" + std::to_string(i) + "]."});
  }
  return readers;
}

const nlohmann::json& StateReader::list(const char* key) const {
  const auto& value = at(key);
  if (!value.is_array()) refuse(key, "a list");
  return value;
}

void StateReader::refuse(const std::string& why) const {
  throw CheckpointError(what_ + " is damaged: " + why);
}

void StateReader::refuse(const char* key, const char* wanted) const {
  const auto value = has(key) ? shown(at(key).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
                              : std::string("it is missing");
  refuse(path_ + key + " is not " + wanted + ": " + value);
}

}  // namespace troupe
