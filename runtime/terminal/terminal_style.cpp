#include "troupe/runtime/terminal/terminal_style.hpp"

namespace troupe {

TerminalStyle terminal_style(bool is_terminal, const Environment& environment) {
  if (!is_terminal || environment("TERM") == "dumb") return {};
  return {.redraws = true, .colours = environment("NO_COLOR").value_or("").empty()};
}

std::string emphasized(std::string_view text, Emphasis emphasis, bool colours) {
  if (!colours) return std::string(text);
  return (emphasis == Emphasis::failure ? "\x1b[31m" : "\x1b[33m") + std::string(text) + "\x1b[0m";
}

}  // namespace troupe
