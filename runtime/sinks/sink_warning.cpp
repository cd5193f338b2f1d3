#include "troupe/runtime/sinks/sink_warning.hpp"

#include <utility>

#include <iostream>

namespace troupe {

void warn_on_stderr(const std::string& text) {
  std::cerr << "troupe: warning: " + text + '\n';
}

void SinkWarnings::set_run(SinkWarning run) {
  const std::lock_guard lock(mutex_);
  run_ = std::move(run);
}

void SinkWarnings::warn(const std::string& text) {
  const std::lock_guard lock(mutex_);
  run_ ? run_(text) : warn_on_stderr(text);
}

}  // namespace troupe
