// Files of text that somebody has saved in another encoding than UTF-8.
#pragma once

#include "troupe/base/failure.hpp"

#include <string>
#include <string_view>

namespace troupe {

/// Throws UsageError if `text`, the beginning of a file, is UTF-16 or UTF-32: it has the mark of a byte order of those,
/// or zeros around its first character. `source` is the file, `kind` what it is to be: "a config file".
inline void refuse_other_encodings(std::string_view text, const std::string& source, const char* kind) {
  const auto starts = text.substr(0, 4);
  const bool is_marked = starts.starts_with("\xFF\xFE") || starts.starts_with("\xFE\xFF");
  if (!is_marked && starts.find('\0') == starts.npos) return;
  throw UsageError(source + ": the file is UTF-16 or UTF-32, " + kind + " is UTF-8: save it as that");
}

}  // namespace troupe
