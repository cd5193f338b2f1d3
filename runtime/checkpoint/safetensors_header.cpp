#include "troupe/runtime/checkpoint/safetensors_header.hpp"

#include "troupe/base/text.hpp"

#include <c10/core/ScalarType.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <optional>
#include <unordered_set>

namespace troupe {
namespace {

struct Dtype {
  torch::ScalarType type;
  std::string_view name;
};
// Those that LibTorch has, too.
constexpr Dtype kDtypes[] = {{torch::kFloat64, "F64"},
                             {torch::kFloat32, "F32"},
                             {torch::kFloat16, "F16"},
                             {torch::kBFloat16, "BF16"},
                             {torch::kFloat8_e4m3fn, "F8_E4M3"},
                             {torch::kFloat8_e5m2, "F8_E5M2"},
                             {torch::kFloat8_e4m3fnuz, "F8_E4M3FNUZ"},
                             {torch::kFloat8_e5m2fnuz, "F8_E5M2FNUZ"},
                             {torch::kFloat8_e8m0fnu, "F8_E8M0"},
                             {torch::kComplexFloat, "C64"},
                             {torch::kInt64, "I64"},
                             {torch::kInt32, "I32"},
                             {torch::kInt16, "I16"},
                             {torch::kInt8, "I8"},
                             {torch::kUInt64, "U64"},
                             {torch::kUInt32, "U32"},
                             {torch::kUInt16, "U16"},
                             {torch::kUInt8, "U8"},
                             {torch::kBool, "BOOL"},
                             {torch::kFloat4_e2m1fn_x2, "F4"}};
/// Types of less than a byte, of which the header counts single elements. LibTorch has none of 6 bits, and holds two F4
/// in an element, along the last dimension.
struct SmallDtype {
  std::string_view name;
  int64_t bits;
};
constexpr SmallDtype kSmallDtypes[] = {{"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}};
constexpr std::string_view kMetadata = "__metadata__";
/// More dimensions than LibTorch's kernels take.
constexpr std::size_t kMaxDimensions = 64;

/// Receives the header value by value. The states are the places in the one shape that a header can have:
/// {"__metadata__": {name: text}, name: {"dtype": text, "shape": [...], "data_offsets": [begin, end]}}.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  SafetensorsHeader take() { return std::move(header_); }

  bool null() override {  // the reference implementation takes it for no metadata
    return (place_ == Place::top && key_ == kMetadata) || refuse("null");
  }
  bool boolean(bool) override { return refuse("a boolean"); }
  bool number_float(number_float_t, const string_t& text) override { return refuse("the number " + shown(text)); }
  bool number_integer(number_integer_t number) override { return refuse("the number " + std::to_string(number)); }
  bool binary(binary_t&) override { return refuse("binary data"); }

  bool number_unsigned(number_unsigned_t number) override {
    if (place_ == Place::shape) {
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) fail("a size is too large");
      if (entry_.shape.size() == kMaxDimensions) fail("it has more than 64 dimensions");
      entry_.shape.push_back(static_cast<int64_t>(number));
    } else if (place_ == Place::offsets) {
      if (offsets_ == 2) fail("'data_offsets' has more than two numbers");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = number;
    } else {
      return refuse("the number " + std::to_string(number));
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::metadata) {
      if (!header_.metadata.emplace(key_, std::move(text)).second) fail("has " + shown(key_) + " twice");
    } else if (place_ == Place::entry && key_ == "dtype") {
      const auto found = std::ranges::find(kDtypes, std::string_view(text), &Dtype::name);
      entry_.dtype = found == std::end(kDtypes) ? torch::ScalarType::Undefined : found->type;
      entry_.dtype_name = std::move(text);
    } else {
      return refuse("text");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::start: place_ = Place::top; return true;
      case Place::top: place_ = key_ == kMetadata ? Place::metadata : Place::entry; return true;
      default: return refuse("an object");
    }
  }

  bool key(string_t& name) override {
    if (place_ == Place::top) {
      if (!names_.insert(name).second) throw HeaderError("tensor '" + shown(name) + "' stands in the header twice");
      entry_ = {};
      entry_.name = name;
      seen_ = {};
      offsets_ = 0;
    } else if (place_ == Place::entry) {
      const auto known = std::find(kKeys.begin(), kKeys.end(), name);
      if (known == kKeys.end()) fail("has the unknown key '" + shown(name) + "'");
      if (std::exchange(seen_[static_cast<std::size_t>(known - kKeys.begin())], true)) {
        fail("has the key '" + name + "' twice");
      }
    }
    key_ = std::move(name);
    return true;
  }

  bool end_object() override {
    if (place_ == Place::entry) {
      for (std::size_t i = 0; i < kKeys.size(); ++i) {
        if (!seen_[i]) fail("has no '" + std::string(kKeys[i]) + "'");
      }
      if (offsets_ != 2) fail("'data_offsets' has fewer than two numbers");
      pack();
      header_.entries.push_back(std::move(entry_));
    }
    place_ = place_ == Place::top ? Place::end : Place::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::entry || key_ == "dtype") return refuse("a list");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }
  bool end_array() override {
    place_ = Place::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw HeaderError("the header is not JSON (byte " + std::to_string(position) + ")");
  }

 private:
  enum class Place { start, top, metadata, entry, shape, offsets, end };
  static constexpr std::array<std::string_view, 3> kKeys = {"dtype", "shape", "data_offsets"};

  /// Of what LibTorch cannot hold the shape stays that of the header.
  void pack() {
    if (entry_.dtype != torch::kFloat4_e2m1fn_x2) return;
    if (entry_.shape.empty() || entry_.shape.back() % 2 != 0) {
      entry_.dtype = torch::ScalarType::Undefined;
    } else {
      entry_.shape.back() /= 2;
    }
  }

  bool refuse(const std::string& what) {
    if (place_ == Place::start) throw HeaderError("the header is " + what + " instead of an object");
    if (place_ == Place::top) throw HeaderError("'" + shown(key_) + "' is " + what + " instead of an object");
    fail("has " + what + " at '" + shown(key_) + "'");
  }
  [[noreturn]] void fail(const std::string& reason) const {
    if (place_ == Place::metadata) throw HeaderError("__metadata__ " + reason);
    throw HeaderError("tensor '" + shown(entry_.name) + "': " + reason);
  }

  SafetensorsHeader header_;
  Place place_ = Place::start;
  std::string key_;
  SafetensorsEntry entry_;
  std::array<bool, 3> seen_{};
  int offsets_ = 0;
  std::unordered_set<std::string> names_;
};

}  // namespace

std::string_view safetensors_dtype(torch::ScalarType dtype) {
  const auto found = std::ranges::find(kDtypes, dtype, &Dtype::type);
  return found == std::end(kDtypes) ? std::string_view() : found->name;
}

std::string all_safetensors_dtypes() {
  std::string names;
  for (const auto& each : kDtypes) names += (names.empty() ? "" : " ") + std::string(each.name);
  return names;
}

std::optional<uint64_t> stored_bytes(const SafetensorsEntry& entry) {
  // Zeros are left aside: LibTorch computes strides as if they were ones.
  const auto product_of = [&](int64_t product) {
    bool empty = false;
    for (const auto size : entry.shape) {
      empty = empty || size == 0;
      if (size != 0 && __builtin_mul_overflow(product, size, &product)) throw HeaderError("the shape is too large");
    }
    return empty ? 0 : static_cast<uint64_t>(product);
  };
  if (entry.dtype != torch::ScalarType::Undefined)
    return product_of(static_cast<int64_t>(c10::elementSize(entry.dtype)));
  const auto small = std::ranges::find(kSmallDtypes, std::string_view(entry.dtype_name), &SmallDtype::name);
  if (small == std::end(kSmallDtypes)) return std::nullopt;
  const auto bits = product_of(small->bits);
  if (bits % 8 != 0)
    throw HeaderError("its elements of " + std::to_string(small->bits) + " bits do not fill whole bytes");
  return bits / 8;
}

std::string why_unreadable(const SafetensorsEntry& entry) {
  if (entry.dtype_name == "F4") {
    return "has the dtype 'F4' and the shape [" + joined(entry.shape) +
           "]: LibTorch holds two F4 in a byte, so the last size has to be even";
  }
  const bool is_small =
      std::ranges::find(kSmallDtypes, std::string_view(entry.dtype_name), &SmallDtype::name) != std::end(kSmallDtypes);
  const auto dtype = "has the dtype '" + shown(entry.dtype_name) + "'";
  if (is_small) return dtype + ", which LibTorch does not have; convert it to BF16 or F8_E4M3 where it was written";
  return dtype + ", which is unknown; the format's that LibTorch has are " + all_safetensors_dtypes();
}

SafetensorsHeader parse_safetensors_header(std::string_view text) {
  if (text.empty() || text.front() != '{') throw HeaderError("the header does not begin with '{'");
  // The parser takes a zero byte for the end of the text.
  if (const auto zero = text.find('\0'); zero != text.npos) {
    throw HeaderError("the header is not JSON (byte " + std::to_string(zero) + ")");
  }
  HeaderReader reader;
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take();
}

std::string safetensors_header_text(const SafetensorsHeader& header) {
  nlohmann::ordered_json json;
  if (!header.metadata.empty()) json[std::string(kMetadata)] = header.metadata;
  std::string text = json.is_null() ? "{" : json.dump();
  if (!json.is_null()) text.pop_back();
  // Entry by entry: a JSON object of all would search its keys for each insertion.
  for (const auto& entry : header.entries) {
    auto shape = entry.shape;
    if (entry.dtype == torch::kFloat4_e2m1fn_x2) shape.back() *= 2;
    const nlohmann::ordered_json value = {
        {"dtype", entry.dtype_name}, {"shape", std::move(shape)}, {"data_offsets", {entry.begin, entry.end}}};
    if (text.size() > 1) text += ',';
    text += nlohmann::json(entry.name).dump() + ":" + value.dump();
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace troupe
