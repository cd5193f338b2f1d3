// Files that are there whole or not at all.
#pragma once

#include "troupe/runtime/checkpoint/file_system.hpp"

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string_view>

namespace troupe {

/// Gives `write` a temporary file in the folder of `path` (which is created if it is missing) and makes it `path`:
/// fsync, rename, fsync of the folder. At any moment, a power failure included, `path` is what it was before or the
/// whole new file. After an exception, of `write` too, no temporary file is left.
///
/// Any thread may call, several at a time on different paths. Throws FileError with path and reason for what the file
/// system refuses.
void write_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write,
                      FileSystem& files = real_file_system());

/// The same of a file of these bytes.
void write_text_atomically(const std::filesystem::path& path, std::string_view text,
                           FileSystem& files = real_file_system());

/// A name for a temporary file in `folder`, each time another one; it says to people which process of which host left
/// the file, and to remove_abandoned_files on which machine.
std::filesystem::path temporary_path(const std::filesystem::path& folder);

/// What `create` makes of the first such name that is new; for the others it throws FileError of EEXIST.
template <class Create>
auto create_temporary(const std::filesystem::path& folder, Create create) {
  for (int attempt = 0;; ++attempt) {
    try {
      return create(temporary_path(folder));
    } catch (const FileError& error) {
      if (error.code().value() != EEXIST || attempt == 1000) throw;
    }
  }
}

/// Deletes the temporary files in `folder` that nobody writes any more: of this machine those that no process holds the
/// lock of, whatever container it is in. The locks of other machines cannot be relied on, and some file systems have
/// none: then those that nobody is seen to hold and that nothing was written to for a day, by the file system's own
/// clock. Returns how many there were. Any thread may call; never throws.
std::size_t remove_abandoned_files(const std::filesystem::path& folder);

}  // namespace troupe
