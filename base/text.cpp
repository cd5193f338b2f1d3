#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>

namespace troupe {
namespace {

constexpr std::size_t longest_shown = 120;

struct Character {
  char32_t code = 0xFFFD;
  std::size_t length = 1;
  bool valid = false;
};

/// Decodes the character at the front of `text`, which is not empty. An invalid one is a single byte long.
Character decode(std::string_view text) {
  auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1, true};
  std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return {};
  char32_t code = lead & (0x7F >> length);
  for (std::size_t i = 1; i < length; ++i) {
    auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0) != 0x80) return {};
    code = code << 6 | (next & 0x3F);
  }
  constexpr std::array<char32_t, 5> kSmallest{0, 0, 0x80, 0x800, 0x10000};
  bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kSmallest[length] || code > 0x10FFFF || surrogate) return {};
  return {code, length, true};
}

struct Range {
  char32_t first, last;
};

// The blocks of Unicode's EastAsianWidth.txt that are wide as a whole, and those of combining marks.
constexpr Range kWide[] = {{0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},   {0xAC00, 0xD7A3},
                           {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
                           {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF}, {0x1F900, 0x1FAFF}, {0x20000, 0x3FFFD}};
constexpr Range kZero[] = {{0x0300, 0x036F}, {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF},
                           {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}};

int width_of(char32_t code) {
  auto holds = [code](Range range) { return range.first <= code && code <= range.last; };
  if (std::ranges::any_of(kZero, holds)) return 0;
  return std::ranges::any_of(kWide, holds) ? 2 : 1;
}

template <typename Visit>
void for_each_character(std::string_view text, Visit visit) {
  while (!text.empty()) {
    Character character = decode(text);
    if (!visit(character, text.substr(0, character.length))) return;
    text.remove_prefix(character.length);
  }
}

std::string escaped(unsigned char byte) {
  constexpr std::string_view digits = "0123456789abcdef";
  if (byte == '\n') return "\\n";
  if (byte == '\t') return "\\t";
  return {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
}

}  // namespace

std::string shown(std::string_view text) {
  std::string out;
  for_each_character(text, [&](const Character& character, std::string_view bytes) {
    const bool is_cut = out.size() >= longest_shown;
    const auto byte = static_cast<unsigned char>(bytes[0]);
    const bool is_plain = character.valid && byte >= 0x20 && byte != 0x7F;
    out += is_cut ? "..." : is_plain ? std::string(bytes) : escaped(byte);
    return !is_cut;
  });
  return out;
}

std::string joined(const std::vector<std::string>& items, std::string_view separator) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) text += separator;
    text += items[i];
  }
  return text;
}

std::string joined(std::span<const int64_t> numbers) {
  return joined_as(numbers, [](int64_t number) { return std::to_string(number); });
}

std::string brief_list(std::vector<std::string> items, std::string_view before_rest) {
  constexpr std::size_t most_listed = 20;
  if (items.size() <= most_listed) return joined(items);
  const auto others = items.size() - most_listed;
  items.resize(most_listed);
  return joined(items).append(before_rest) + std::to_string(others) + " more";
}

std::string small_letters(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

bool is_utf8(std::string_view text) {
  bool valid = true;
  for_each_character(text, [&](const Character& character, std::string_view) { return valid = character.valid; });
  return valid;
}

std::u32string characters(std::string_view text) {
  std::u32string out;
  for_each_character(text, [&](const Character& character, std::string_view) {
    out += character.valid ? character.code : U'\uFFFD';
    return true;
  });
  return out;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  for_each_character(text, [&](const Character& character, std::string_view bytes) {
    out += character.valid ? bytes : "\uFFFD";
    return true;
  });
  return out;
}

std::string single_line(std::string_view text) {
  std::string out;
  for_each_character(text, [&](const Character& character, std::string_view bytes) {
    bool control = character.code < 0x20 || (character.code >= 0x7F && character.code < 0xA0);
    out += !character.valid ? "\uFFFD" : control ? " " : bytes;
    return true;
  });
  return out;
}

int columns(std::string_view text) {
  int total = 0;
  for_each_character(text, [&](const Character& character, std::string_view) {
    total += width_of(character.code);
    return true;
  });
  return total;
}

std::string fit_columns(std::string_view text, int limit) {
  int total = 0;
  std::string out;
  for_each_character(text, [&](const Character& character, std::string_view bytes) {
    total += width_of(character.code);
    if (total > limit) return false;
    out += bytes;
    return true;
  });
  return out;
}

std::string pad_columns(std::string_view text, int width) {
  return std::string(text) + std::string(static_cast<std::size_t>(std::max(0, width - columns(text))), ' ');
}

}  // namespace troupe
