#include "troupe/runtime/sinks/sink_warning.hpp"

#include <iostream>

namespace troupe {

void warn_on_stderr(const std::string& text) {
  std::cerr << "troupe: warning: " + text + '\n';
}

}  // namespace troupe
