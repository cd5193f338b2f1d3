// The grammar behind config_file.hpp: one value of TOML after another.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace troupe {

/// Reads tokens of a part of TOML from a text that must outlive it. Throws UsageError "<source>:<line>: ...".
class TomlReader {
 public:
  TomlReader(std::string_view text, std::string source) : text_(text), source_(std::move(source)) {}

  int line() const { return line_; }
  /// Moves over blanks, line ends and comments; whether anything follows.
  bool next_statement();
  /// Whether the next character is `c`, which is then taken.
  bool take(char c);
  /// `a` or `a.b.c` of plain keys (letters, digits, _ and -).
  std::string read_key();
  /// A string, number, boolean, or an array of these. NaN and infinities are floats of that value.
  nlohmann::json read_value();
  /// Nothing but a comment may follow on this line.
  void end_line();
  void skip_blanks();
  [[noreturn]] void fail(const std::string& what) const;

 private:
  bool at_end() const { return position_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[position_]; }
  bool at_line_end() const;
  void skip_comment();
  void skip_blanks_and_lines();
  /// From here to `end`, inside of a string.
  std::string_view plain_text(std::size_t end) const;
  std::string read_basic_string();
  std::string read_literal_string();
  std::string read_escape();
  std::string read_code_point(int digits);
  nlohmann::json read_scalar();
  nlohmann::json read_array();

  std::string_view text_;
  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
};

}  // namespace troupe
