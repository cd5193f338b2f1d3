#include "troupe/runtime/checkpoint/checksum.hpp"

#define XXH_INLINE_ALL  // no library to link
#include <xxhash.h>

#include <cstdio>

namespace troupe {

struct Checksum::State {
  XXH3_state_t xxh;
};

Checksum::Checksum() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(&state_->xxh);
}

Checksum::~Checksum() = default;

Checksum& Checksum::add(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
  return *this;
}

std::string Checksum::hex() const {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(XXH3_64bits_digest(&state_->xxh)));
  return text;
}

}  // namespace troupe
