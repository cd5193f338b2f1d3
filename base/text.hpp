// Text that comes from users and files (names, tags, paths) and goes to messages, terminals and files.
#pragma once

#include <string>
#include <string_view>

namespace troupe {

/// Text of any origin, made fit for an error message: control characters and bytes that are not UTF-8 are escaped, and
/// text that is longer than 120 bytes is cut.
std::string shown(std::string_view text);

/// Whether `text` is well-formed UTF-8 (RFC 3629).
bool is_utf8(std::string_view text);

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
