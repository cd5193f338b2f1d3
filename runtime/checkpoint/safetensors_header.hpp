// The JSON header of a safetensors file, from and to text.
#pragma once

#include "troupe/runtime/checkpoint/safetensors.hpp"

#include <optional>
#include <stdexcept>

namespace troupe {

/// What is wrong with a header.
class HeaderError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< `begin` and `end` count from the end of the header
  SafetensorsMetadata metadata;
};

/// Reads strictly: every key known, none twice, no value of another type; a dtype may be one that is not known. Uses no
/// more memory than a small multiple of the text. Does not compare the entries with each other or with a file. Throws
/// HeaderError.
SafetensorsHeader parse_safetensors_header(std::string_view text);

/// Text of `header`, padded with spaces to a multiple of 8. Names and metadata have to be UTF-8.
std::string safetensors_header_text(const SafetensorsHeader& header);

/// Bytes that the tensor takes; nothing for a type of which nobody can say how many there have to be. Throws
/// HeaderError if the product overflows, zeros left aside, and for elements of less than a byte that do not fill whole
/// bytes.
std::optional<uint64_t> stored_bytes(const SafetensorsEntry& entry);

}  // namespace troupe
