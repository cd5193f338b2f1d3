// A reader of what strangers may hand over, as a function of bytes.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace troupe::fuzz {

struct Target {
  std::string name;
  std::vector<std::string> seeds;                      ///< valid input
  std::function<void(const std::string& bytes)> read;  ///< may throw UsageError or FileError
};

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace troupe::fuzz
