// What a Python script of tests/python prints.
#pragma once

#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace troupe {

/// Runs tests/python/`script` with `arguments`, as the shell takes them, in the Python of the tests; throws unless it
/// exits with 0.
inline std::string python_output(const std::string& script, const std::string& arguments) {
  const std::string command =
      "'" TROUPE_TEST_PYTHON "' '" TROUPE_SOURCE_DIR "/tests/python/" + script + "' " + arguments;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) throw std::runtime_error("cannot run " + command);
  std::string text;
  std::array<char, 4096> buffer;
  for (std::size_t got = 0; (got = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), got);
  if (pclose(pipe) != 0) throw std::runtime_error("failed: " + command);
  return text;
}

}  // namespace troupe
