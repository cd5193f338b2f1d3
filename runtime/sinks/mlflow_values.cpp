#include "troupe/runtime/sinks/mlflow_values.hpp"

#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace troupe {

namespace {

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

// Of the letters outside of ASCII, blocks that hold nothing else in any version of Unicode that a server may have.
bool is_key_letter(uint32_t c) {
  constexpr std::array<std::pair<uint32_t, uint32_t>, 9> letters = {{{0xC0, 0xD6},
                                                                     {0xD8, 0xF6},
                                                                     {0xF8, 0x24F},
                                                                     {0x391, 0x3A1},
                                                                     {0x3A3, 0x3CE},
                                                                     {0x400, 0x481},
                                                                     {0x3041, 0x3096},
                                                                     {0x4E00, 0x9FA5},
                                                                     {0xAC00, 0xD7A3}}};
  return std::ranges::any_of(letters, [c](const auto& range) { return c >= range.first && c <= range.second; });
}

bool is_key_character(std::string_view character) {
  if (character.size() == 1) {
    const char c = character[0];
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-.:/ ").find(c) != std::string_view::npos;
  }
  uint32_t code = static_cast<unsigned char>(character[0]) & (0xFF >> (character.size() + 1));
  for (const char c : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3F);
  return is_key_letter(code);
}

std::string allowed_characters(const std::string& text) {
  std::string out;
  for (std::size_t i = 0, end = 0; i < text.size(); i = end) {
    for (end = i + 1; end < text.size() && !begins_character(text[end]);) ++end;
    const auto character = std::string_view(text).substr(i, end - i);
    out += is_key_character(character) ? character : "_";
  }
  return out;
}

// A path without empty parts and without . and .. among them.
std::string as_plain_path(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto end = std::min(text.find('/', i), text.size());
    auto part = text.substr(i, end - i);
    if (part == "." || part == "..") part.assign(part.size(), '_');
    if (!part.empty()) out += (out.empty() ? "" : "/") + part;
    i = end + 1;
  }
  return out.empty() ? "_" : out;
}

std::string value_as_text(const nlohmann::json& value) {
  if (value.is_string()) return valid_utf8(value.get_ref<const std::string&>());
  if (value.is_null()) return "none";
  if (value.is_number_float()) return double_to_text(value.get<double>());
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void add_flattened(MlflowTexts& all, const std::string& name, const nlohmann::json& value) {
  if (!value.is_object() || value.empty()) {
    if (!name.empty()) all.emplace_back(name, value_as_text(value));
    return;
  }
  for (const auto& [key, member] : value.items()) add_flattened(all, name.empty() ? key : name + "." + key, member);
}

}  // namespace

std::string first_characters(const std::string& text, std::size_t count) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (begins_character(text[i]) && count-- == 0) return text.substr(0, i);
  }
  return text;
}

std::string mlflow_key(std::string_view name) {
  return as_plain_path(first_characters(as_plain_path(allowed_characters(valid_utf8(name))), longest_mlflow_key));
}

const std::string& MlflowKeys::of(const std::string& name) {
  const auto known = keys_.find(name);
  if (known != keys_.end()) return known->second;
  const auto key = mlflow_key(name);
  auto free = key;
  for (int number = 2; names_.contains(free); ++number) {
    const auto ending = "_" + std::to_string(number);
    free = as_plain_path(first_characters(key, longest_mlflow_key - ending.size()) + ending);
  }
  names_.emplace(free, name);
  return keys_.emplace(name, free).first->second;
}

MlflowTexts flattened(const nlohmann::json& object) {
  MlflowTexts all;
  add_flattened(all, "", object);
  return all;
}

}  // namespace troupe
