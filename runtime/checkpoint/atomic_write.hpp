// Files that are there whole or not at all.
#pragma once

#include "troupe/runtime/checkpoint/file_system.hpp"

#include <filesystem>
#include <functional>

namespace troupe {

/// Gives `write` a temporary file in the folder of `path` (which is created where it is missing) and makes it `path`:
/// fsync, rename, fsync of the folder. At any moment, a power failure included, `path` is what it was before or the
/// whole new file. After an exception, of `write` too, no temporary file is left.
///
/// Any thread may call, several at a time on different paths. Throws FileError with path and reason for what the file
/// system refuses.
void write_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write,
                      FileSystem& files = real_file_system());

}  // namespace troupe
