// What a Python script of tests/python prints.
#pragma once

#include "tests/support/program.hpp"

#include <stdexcept>
#include <string>
#include <utility>

namespace troupe {

/// Runs tests/python/`script` with `arguments`, as the shell takes them, in the Python of the tests; throws unless it
/// exits with 0.
inline std::string python_output(const std::string& script, const std::string& arguments) {
  const std::string command =
      "'" TROUPE_TEST_PYTHON "' '" TROUPE_SOURCE_DIR "/tests/python/" + script + "' " + arguments;
  auto run = run_program(command);
  if (run.status != 0) throw std::runtime_error("failed: " + command);
  return std::move(run.output);
}

}  // namespace troupe
