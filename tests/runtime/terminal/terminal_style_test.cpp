#include "troupe/runtime/terminal/terminal_style.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace troupe {
namespace {

TerminalStyle style_of(bool is_terminal, const std::map<std::string, std::string>& variables) {
  return terminal_style(is_terminal, [&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  });
}

TEST(TerminalStyle, IsPlainWhereThereIsNoTerminal) {
  EXPECT_FALSE(style_of(false, {{"TERM", "xterm"}}).redraws);
  EXPECT_FALSE(style_of(false, {{"TERM", "xterm"}}).colours);
}

TEST(TerminalStyle, HasColoursOnATerminalUnlessNoColorIsSet) {
  EXPECT_TRUE(style_of(true, {{"TERM", "xterm"}}).redraws);
  EXPECT_TRUE(style_of(true, {{"TERM", "xterm"}}).colours);
  EXPECT_TRUE(style_of(true, {}).colours);
  EXPECT_FALSE(style_of(true, {{"NO_COLOR", "1"}}).colours);
  EXPECT_TRUE(style_of(true, {{"NO_COLOR", "1"}}).redraws);
  EXPECT_TRUE(style_of(true, {{"NO_COLOR", ""}}).colours);  // no-color.org: "when present and not an empty string"
}

TEST(TerminalStyle, IsPlainOnADumbTerminal) {
  EXPECT_FALSE(style_of(true, {{"TERM", "dumb"}}).redraws);
  EXPECT_FALSE(style_of(true, {{"TERM", "dumb"}}).colours);
}

TEST(TerminalStyle, ColoursOnlyWhereItMay) {
  EXPECT_EQ(emphasized("failed", Emphasis::failure, true), "\x1b[31mfailed\x1b[0m");
  EXPECT_EQ(emphasized("warning: ", Emphasis::warning, true), "\x1b[33mwarning: \x1b[0m");
  EXPECT_EQ(emphasized("failed", Emphasis::failure, false), "failed");
}

}  // namespace
}  // namespace troupe
