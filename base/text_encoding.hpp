// How a file of text begins that somebody has saved with a mark of its byte order, or in another encoding than UTF-8.
#pragma once

#include "troupe/base/failure.hpp"

#include <cstddef>
#include <string>
#include <string_view>

namespace troupe {

/// How many bytes the mark of a byte order takes at the beginning of `text`, the beginning of a file: 3 or 0. Throws
/// UsageError for UTF-16 and UTF-32, which have another mark, or zeros around their first character. `source` is the
/// file, `kind` what it is to be: "a config file".
inline std::size_t size_of_mark(std::string_view text, const std::string& source, const char* kind) {
  const auto starts = text.substr(0, 4);
  const bool is_marked = starts.starts_with("\xFF\xFE") || starts.starts_with("\xFE\xFF");
  if (is_marked || starts.find('\0') != starts.npos) {
    throw UsageError(source + ": the file is UTF-16 or UTF-32, " + kind + " is UTF-8: save it as that");
  }
  return starts.starts_with("\xEF\xBB\xBF") ? 3 : 0;
}

}  // namespace troupe
