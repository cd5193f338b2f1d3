#include "troupe/runtime/data/shards/shard_fields.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/data/arrays/npy.hpp"

#include <algorithm>
#include <string_view>

namespace troupe {

namespace {

std::string_view field_text(std::span<const std::byte> content) {
  return {reinterpret_cast<const char*>(content.data()), content.size()};
}

FieldValue decode_text(std::span<const std::byte> content, const std::string& name) {
  const auto text = field_text(content);
  if (!is_utf8(text)) throw UsageError(name + ": the text is not UTF-8");
  return std::any(std::string(text));
}

FieldValue decode_json(std::span<const std::byte> content, const std::string& name) {
  try {
    return std::any(parse_strict_json(field_text(content)));
  } catch (const UsageError& error) {
    throw UsageError(name + ": " + error.what());
  }
}

FieldValue decode_array(std::span<const std::byte> content, const std::string& name) {
  return read_npy(content, name);
}

const std::map<std::string, FieldKind>& own_field_kinds() {
  using Value = FieldKind::Value;
  static const std::map<std::string, FieldKind> all = {{"jpg", {Value::image}},
                                                       {"jpeg", {Value::image}},
                                                       {"png", {Value::image}},
                                                       {"cls", {Value::number}},
                                                       {"cls2", {Value::number}},
                                                       {"id", {Value::number}},
                                                       {"index", {Value::number}},
                                                       {"inx", {Value::number}},
                                                       {"json", {Value::other, decode_json}},
                                                       {"jsn", {Value::other, decode_json}},
                                                       {"npy", {Value::other, decode_array}},
                                                       {"txt", {Value::other, decode_text}},
                                                       {"text", {Value::other, decode_text}},
                                                       {"transcript", {Value::other, decode_text}}};
  return all;
}

}  // namespace

FieldKind field_kind(const std::string& extension, const std::map<std::string, FieldDecoder>& own) {
  const auto last = extension.substr(extension.rfind('.') + 1);
  for (const auto& name : {extension, last}) {
    if (const auto found = own.find(name); found != own.end()) return {FieldKind::Value::other, found->second};
  }
  const auto found = own_field_kinds().find(last);
  return found != own_field_kinds().end() ? found->second : FieldKind{};
}

int64_t class_number(std::span<const std::byte> content, const std::string& name) {
  std::string_view text = field_text(content);
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  text = text.substr(0, text.find_last_not_of(" \r\n") + 1);
  const auto number = number_from_text<int64_t>(text);
  if (!number) throw UsageError(name + ": '" + shown(text) + "' is no whole number");
  return *number;
}

std::vector<std::string> decoded_extensions() {
  std::vector<std::string> out;
  for (const auto& [extension, kind] : own_field_kinds()) out.push_back(extension);
  return out;
}

}  // namespace troupe
