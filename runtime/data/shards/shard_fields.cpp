#include "troupe/runtime/data/shards/shard_fields.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/checkpoint/strict_json.hpp"
#include "troupe/runtime/data/arrays/npy.hpp"

#include <ATen/ops/scalar_tensor.h>

#include <cstdint>

namespace troupe {

namespace {

std::string_view field_text(std::span<const std::byte> content) {
  return {reinterpret_cast<const char*>(content.data()), content.size()};
}

FieldValue decode_class(std::span<const std::byte> content, const std::string& name) {
  std::string_view text = field_text(content);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  const auto number = number_from_text<int64_t>(text);
  if (!number) throw UsageError(name + ": '" + shown(text) + "' is no whole number");
  return torch::Tensor(at::scalar_tensor(*number, at::kLong));
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

FieldDecoder image_field_decoder(const ImageOptions& image, const std::optional<transforms::Compose>& transform) {
  return [image, transform](std::span<const std::byte> content, const std::string& name) -> FieldValue {
    const std::span bytes(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    auto pixels = decode_image(bytes, image, name);
    return transform ? (*transform)(pixels) : pixels;
  };
}

bool is_image_extension(std::string_view extension) {
  return extension == "jpg" || extension == "jpeg" || extension == "png";
}

const std::map<std::string, FieldDecoder>& own_field_decoders() {
  static const std::map<std::string, FieldDecoder> all = {
      {"cls", decode_class}, {"cls2", decode_class}, {"id", decode_class},         {"index", decode_class},
      {"inx", decode_class}, {"json", decode_json},  {"jsn", decode_json},         {"txt", decode_text},
      {"text", decode_text}, {"npy", decode_array}, {"transcript", decode_text}};
  return all;
}

}  // namespace

FieldDecoder find_field_decoder(const std::string& extension, const std::map<std::string, FieldDecoder>& own,
                                const ImageOptions& image, const std::optional<transforms::Compose>& transform) {
  const auto last = extension.substr(extension.rfind('.') + 1);
  for (const auto& name : {extension, last}) {
    if (const auto found = own.find(name); found != own.end()) return found->second;
  }
  if (is_image_extension(last)) return image_field_decoder(image, transform);
  const auto found = own_field_decoders().find(last);
  return found != own_field_decoders().end() ? found->second : nullptr;
}

std::vector<std::string> decoded_extensions() {
  std::vector<std::string> out = {"jpg", "jpeg", "png"};
  for (const auto& [extension, decoder] : own_field_decoders()) out.push_back(extension);
  return out;
}

}  // namespace troupe
