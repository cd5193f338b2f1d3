// Names that nobody else has.
#pragma once

#include <random>
#include <string>
#include <string_view>

namespace troupe {

/// 32 hexadecimal digits from the system's source of random bits.
inline std::string random_id() {
  std::random_device random;
  std::string id;
  while (id.size() < 32) id += "0123456789abcdef"[random() % 16];
  return id;
}

/// Whether it is one.
inline bool is_random_id(std::string_view id) {
  return id.size() == 32 && id.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace troupe
