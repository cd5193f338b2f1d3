// Files that are there whole or not at all.
#pragma once

#include "troupe/runtime/checkpoint/file_system.hpp"

#include <cstddef>
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

/// A name in `folder` that no other writer uses; it tells which process left the file when that was killed.
std::filesystem::path temporary_path(const std::filesystem::path& folder);

/// Deletes the temporary files in `folder` that processes of this host left when they were killed; those of processes
/// that live, and of other hosts, stay. Returns how many there were. Any thread may call; never throws.
std::size_t remove_abandoned_files(const std::filesystem::path& folder);

}  // namespace troupe
