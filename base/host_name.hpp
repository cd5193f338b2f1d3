// The name of this machine.
#pragma once

#include <array>
#include <climits>
#include <string>

#include <unistd.h>

namespace troupe {

/// "localhost" if it has none.
inline std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

}  // namespace troupe
