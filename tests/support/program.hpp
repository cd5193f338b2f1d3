// Runs a program of this build as its user would.
#pragma once

#include <array>
#include <cstdio>
#include <string>

#include <sys/wait.h>

namespace troupe {

struct Finished {
  int status = -1;
  std::string output;
};

/// `command` in a shell. stdout comes back; add 2>&1 for both, or 2>FILE.
inline Finished run_program(const std::string& command) {
  Finished out;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return out;
  std::array<char, 4096> buffer;
  while (const auto count = fread(buffer.data(), 1, buffer.size(), pipe)) out.output.append(buffer.data(), count);
  const int status = pclose(pipe);
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

/// The path of an example.
inline std::string example(const std::string& name) {
  return std::string(TROUPE_EXAMPLES) + "/" + name;
}

}  // namespace troupe
