// A profile as a trace that browsers show: https://ui.perfetto.dev and chrome://tracing open it.
//
// The format is Chrome's JSON (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU):
// complete events ("ph": "X") with begin and duration in microseconds, on the lane ("tid") of their thread or actor,
// nested by their times.
#pragma once

#include <filesystem>

namespace troupe {

class Profiling;

/// Writes what all lanes hold, atomically. Throws FileError. Any thread, also while it is recorded.
void write_trace(const Profiling& profiling, const std::filesystem::path& path);

}  // namespace troupe
