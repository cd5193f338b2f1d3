// Text that comes from users and files (names, tags, paths) and goes to messages, terminals and files.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Text of any origin, made fit for an error message: control characters and bytes that are not UTF-8 are escaped, and
/// text that is longer than 120 bytes is cut.
std::string shown(std::string_view text);

/// `items` with `separator` between them.
std::string joined(const std::vector<std::string>& items, std::string_view separator = ", ");

/// "2, 3": sizes, ranks, indices.
std::string joined(std::span<const int64_t> numbers);

/// What `text_of` makes of each of `items`, with commas between.
template <class Items, class TextOf>
std::string joined_as(const Items& items, TextOf text_of) {
  std::vector<std::string> texts;
  for (const auto& item : items) texts.push_back(text_of(item));
  return joined(texts);
}

/// At most 20 of `items` with commas between: "a, b and 3 more". `before_rest` stands before the number of the others.
std::string brief_list(std::vector<std::string> items, std::string_view before_rest = " and ");

/// `text` with small letters in place of A to Z, whatever the locale.
std::string small_letters(std::string text);

/// Whether `text` is well-formed UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

/// The characters of `text`, with U+FFFD for every byte that is not part of valid UTF-8.
std::u32string characters(std::string_view text);

/// `text` with every byte that is not part of valid UTF-8 replaced by U+FFFD. Readers of protobuf strings reject a
/// whole record for one such byte.
std::string valid_utf8(std::string_view text);

/// `text` on one line: control characters become spaces, invalid bytes U+FFFD.
std::string single_line(std::string_view text);

/// Terminal columns that `text` takes: 2 for East Asian wide characters and emoji, 0 for combining marks, 1 otherwise.
int columns(std::string_view text);

/// The longest prefix of `text` that takes at most `limit` columns.
std::string fit_columns(std::string_view text, int limit);

/// `text` followed by spaces up to `width` columns.
std::string pad_columns(std::string_view text, int width);

}  // namespace troupe
