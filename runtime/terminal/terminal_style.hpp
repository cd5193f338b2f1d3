// What a terminal is fit for, and what its user wants of it.
#pragma once

#include "troupe/runtime/collectives/launch_environment.hpp"

#include <string>
#include <string_view>

namespace troupe {

struct TerminalStyle {
  bool redraws = false;  ///< lines can be drawn over; false: plain lines, one below the other
  bool colours = false;
};

/// Of a file descriptor that is a terminal, or is none: then it has neither.
///
/// | variable | meaning |
/// |---|---|
/// | TERM | "dumb": the terminal knows no control sequences, so it gets neither |
/// | NO_COLOR | present and not empty: no colours (https://no-color.org) |
TerminalStyle terminal_style(bool is_terminal, const Environment& environment = environment_variable);

/// What stands out on a terminal; elsewhere it is plain text.
enum class Emphasis { failure, warning };

/// `text` in red for a failure and in yellow for a warning, in the 16 colours that every terminal has.
std::string emphasized(std::string_view text, Emphasis emphasis, bool colours);

}  // namespace troupe
