// What `troupe attach` shows of a run that goes on.
#pragma once

#include "troupe/launch/command/screen.hpp"
#include "troupe/runtime/live/live_message.hpp"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace troupe::command {

/// All that is known of the run at a moment.
struct AttachedRun {
  live::Hello hello;
  bool has_control = false;
  std::optional<live::State> state = {};
  std::optional<ProgressState> progress = {};
  std::string latest = {};  ///< what happened last, in one line
  std::string answer = {};  ///< to the latest command, in one line
};

/// A value a column, from the smallest "▁" to the greatest "█"; of values that are all the same "▄"; what is not finite
/// is a blank. Of more values than `width` the latest.
std::string sparkline(std::span<const double> values, int width);

/// Lines that are at most as wide as the screen, if it has a width, and no more than `height` (0: any number).
std::vector<std::string> view_lines(const AttachedRun& run, const Screen& screen, int height);

/// An event in one line; empty for those that say nothing by themselves.
std::string event_line(const Event& event);

}  // namespace troupe::command
