// Addresses in what a run tells of itself.
#pragma once

#include <string>

namespace troupe {

/// "http://user:secret@host" becomes "http://***@host", wherever it stands in `text`.
std::string without_passwords(const std::string& text);

}  // namespace troupe
