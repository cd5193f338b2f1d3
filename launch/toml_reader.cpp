#include "troupe/launch/toml_reader.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace troupe {
namespace {

constexpr std::string_view digits = "0123456789";
constexpr std::string_view key_characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string utf8(uint32_t code) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xC0 | (code >> 6)), tail(0)};
  if (code < 0x10000) return {static_cast<char>(0xE0 | (code >> 12)), tail(6), tail(0)};
  return {static_cast<char>(0xF0 | (code >> 18)), tail(12), tail(6), tail(0)};
}

/// Takes out the underscores of 1_000; false when one does not stand between two digits.
bool drop_underscores(std::string& token) {
  for (std::size_t i = token.find('_'); i != std::string::npos; i = token.find('_')) {
    if (i == 0 || i + 1 == token.size() || !is_digit(token[i - 1]) || !is_digit(token[i + 1])) return false;
    token.erase(i, 1);
  }
  return true;
}

/// Whether `token` has the form of TOML's decimal numbers: no leading zero, digits on both sides of a point.
bool is_number(std::string_view token) {
  const auto take_digits = [&] {
    const auto count = std::min(token.find_first_not_of(digits), token.size());
    token.remove_prefix(count);
    return count;
  };
  const auto take_sign = [&] {
    if (!token.empty() && (token[0] == '+' || token[0] == '-')) token.remove_prefix(1);
  };
  take_sign();
  const bool zero_first = !token.empty() && token[0] == '0';
  const auto whole = take_digits();
  if (whole == 0 || (zero_first && whole > 1)) return false;
  if (!token.empty() && token[0] == '.') {
    token.remove_prefix(1);
    if (take_digits() == 0) return false;
  }
  if (!token.empty() && (token[0] == 'e' || token[0] == 'E')) {
    token.remove_prefix(1);
    take_sign();
    if (take_digits() == 0) return false;
  }
  return token.empty();
}

bool holds_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7F;
  });
}

bool is_nan_or_infinity(std::string_view token) {
  if (!token.empty() && (token[0] == '+' || token[0] == '-')) token.remove_prefix(1);
  return token == "nan" || token == "inf";
}

}  // namespace

void TomlReader::fail(const std::string& what) const {
  throw UsageError(source_ + ":" + std::to_string(line_) + ": " + what);
}

bool TomlReader::at_line_end() const {
  return at_end() || peek() == '\n' || text_.substr(position_).starts_with("\r\n");
}

bool TomlReader::take(char c) {
  if (at_end() || peek() != c) return false;
  ++position_;
  return true;
}

void TomlReader::skip_blanks() {
  while (peek() == ' ' || peek() == '\t') ++position_;
}

void TomlReader::skip_comment() {
  if (peek() != '#') return;
  position_ = std::min(text_.find('\n', position_), text_.size());
}

void TomlReader::skip_blanks_and_lines() {
  for (;;) {
    skip_blanks();
    skip_comment();
    if (at_end() || !at_line_end()) return;
    position_ = text_.find('\n', position_) + 1;
    ++line_;
  }
}

bool TomlReader::next_statement() {
  skip_blanks_and_lines();
  return !at_end();
}

void TomlReader::end_line() {
  skip_blanks();
  skip_comment();
  if (!at_line_end()) {
    const auto rest = text_.substr(position_, text_.find('\n', position_) - position_);
    fail("'" + shown(rest) + "' follows where the line should end");
  }
}

std::string TomlReader::read_key() {
  std::string key;
  do {
    skip_blanks();
    const auto end = std::min(text_.find_first_not_of(key_characters, position_), text_.size());
    if (end == position_) {
      const auto rest = text_.substr(position_, text_.find('\n', position_) - position_);
      fail("expected a name of letters, digits, _ or -, not '" + shown(rest) + "'");
    }
    key += (key.empty() ? "" : ".") + std::string(text_.substr(position_, end - position_));
    position_ = end;
    skip_blanks();
  } while (take('.'));
  return key;
}

nlohmann::json TomlReader::read_value() {
  skip_blanks();
  return take('[') ? read_array() : read_scalar();
}

nlohmann::json TomlReader::read_array() {
  nlohmann::json list = nlohmann::json::array();
  for (;;) {
    skip_blanks_and_lines();
    if (take(']')) return list;
    if (at_end()) fail("an array is not closed; ] is missing");
    list.push_back(read_scalar());
    skip_blanks_and_lines();
    if (take(']')) return list;
    if (!take(',')) fail("expected , or ] in an array");
  }
}

nlohmann::json TomlReader::read_scalar() {
  if (text_.substr(position_).starts_with("\"\"\"") || text_.substr(position_).starts_with("'''")) {
    fail("strings of several lines are not supported; use \\n");
  }
  if (take('"')) return read_basic_string();
  if (take('\'')) return read_literal_string();
  const auto end = std::min(text_.find_first_of(" \t\r\n,]#", position_), text_.size());
  std::string token(text_.substr(position_, end - position_));
  position_ = end;
  if (token.empty()) fail("a value is missing");
  if (token == "true" || token == "false") return token == "true";
  const std::string as_written = token;
  if (drop_underscores(token)) {
    if (is_nan_or_infinity(token)) return *number_from_text<double>(token);
    if (is_number(token)) {
      const bool whole = token.find_first_of(".eE") == std::string::npos;
      if (const auto number = whole ? number_from_text<int64_t>(token) : std::nullopt) return *number;
      if (const auto number = whole ? number_from_text<uint64_t>(token) : std::nullopt) return *number;
      if (const auto number = whole ? std::nullopt : number_from_text<double>(token)) return *number;
      fail("the number " + shown(as_written) + " is out of range");
    }
  }
  fail("'" + shown(as_written) + "' is not a value; a text stands in quotes");
}

std::string_view TomlReader::plain_text(std::size_t end) const {
  const auto text = text_.substr(position_, end - position_);
  if (holds_control_character(text)) fail("the string '" + shown(text) + "' holds a control character; use \\u00XX");
  return text;
}

std::string TomlReader::read_literal_string() {
  const auto end = text_.find_first_of("'\n", position_);
  if (end == std::string_view::npos || text_[end] == '\n') fail("a string is not closed; ' is missing");
  std::string value(plain_text(end));
  position_ = end + 1;
  return value;
}

std::string TomlReader::read_basic_string() {
  std::string value;
  for (;;) {
    const auto end = std::min(text_.find_first_of("\"\\\n", position_), text_.size());
    value += plain_text(end);
    position_ = end;
    if (take('"')) return value;
    if (!take('\\')) fail("a string is not closed; \" is missing");
    value += read_escape();
  }
}

std::string TomlReader::read_escape() {
  constexpr std::string_view names = "btnfr\"\\";
  constexpr std::string_view meanings = "\b\t\n\f\r\"\\";
  const char c = peek();
  const auto which = at_end() ? std::string_view::npos : names.find(c);
  if (which == std::string_view::npos && c != 'u' && c != 'U') {
    fail("the escape \\" + shown({&c, at_end() ? 0u : 1u}) + " is unknown; a backslash is written \\\\");
  }
  ++position_;
  if (c == 'u' || c == 'U') return read_code_point(c == 'u' ? 4 : 8);
  return {meanings[which]};
}

std::string TomlReader::read_code_point(int digits) {
  const auto text = text_.substr(position_, digits);
  uint32_t code = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), code, 16);
  const bool complete =
      error == std::errc() && end == text.data() + text.size() && static_cast<int>(text.size()) == digits;
  const bool scalar = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
  if (!complete || !scalar) fail("'" + shown(text) + "' is not the number of a Unicode character");
  position_ += digits;
  return utf8(code);
}

}  // namespace troupe
