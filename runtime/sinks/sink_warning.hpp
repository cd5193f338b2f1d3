// How a sink that goes on without what it could not write says so.
#pragma once

#include <functional>
#include <string>

namespace troupe {

/// Takes one sentence. Called on the logger's thread.
using SinkWarning = std::function<void(const std::string& text)>;

/// "troupe: warning: <text>" on the standard error stream, in one write.
void warn_on_stderr(const std::string& text);

}  // namespace troupe
