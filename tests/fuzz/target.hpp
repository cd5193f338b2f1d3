// A reader of what strangers may hand over, as a function of bytes.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace troupe::fuzz {

struct Target {
  std::string name;
  std::vector<std::string> seeds;                      ///< valid input
  std::function<void(const std::string& bytes)> read;  ///< may throw UsageError or FileError
};

}  // namespace troupe::fuzz
