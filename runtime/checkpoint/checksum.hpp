// XXH3, 64 bits (https://github.com/Cyan4973/xxHash): finds accidents, not forgeries.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace troupe {

/// A checksum over pieces. Used by one thread at a time.
class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(const Checksum&) = delete;
  Checksum& operator=(const Checksum&) = delete;

  Checksum& add(std::span<const std::byte> bytes);
  Checksum& add(std::string_view text) { return add(std::as_bytes(std::span(text.data(), text.size()))); }
  /// 16 hexadecimal digits, the most significant first.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace troupe
