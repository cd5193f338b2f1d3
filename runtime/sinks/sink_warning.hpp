// How a sink that goes on without what it could not write says so.
#pragma once

#include <functional>
#include <mutex>
#include <string>

namespace troupe {

/// Takes one sentence. Any thread may call it.
using SinkWarning = std::function<void(const std::string& text)>;

/// "troupe: warning: <text>" on the standard error stream, in one write.
void warn_on_stderr(const std::string& text);

/// Passes warnings on to the run that goes on, whose console and card they belong to; between runs they go to stderr.
/// Sinks outlive the runs of a Trainer. Any thread may use it.
class SinkWarnings {
 public:
  /// Empty: between runs.
  void set_run(SinkWarning run);
  void warn(const std::string& text);

 private:
  std::mutex mutex_;
  SinkWarning run_;
};

}  // namespace troupe
