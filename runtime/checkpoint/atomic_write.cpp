#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>

namespace troupe {

namespace {

/// A new file in `folder` that no other writer uses; its name tells which process left it when that was killed.
std::unique_ptr<OutputFile> create_temporary(const std::filesystem::path& folder, FileSystem& files) {
  static std::atomic<uint64_t> counter{0};
  for (int attempt = 0;; ++attempt) {
    const auto name = ".troupe-" + std::to_string(::getpid()) + "-" + std::to_string(counter++) + ".tmp";
    try {
      return files.create(folder / name);
    } catch (const FileError& error) {
      if (error.code().value() != EEXIST || attempt == 1000) throw;
    }
  }
}

}  // namespace

void write_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write,
                      FileSystem& files) {
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  files.create_folders(folder);
  auto file = create_temporary(folder, files);
  const auto temporary = file->path();
  try {
    write(*file);
    file->publish();
    file->sync();
    file->close();
    files.rename(temporary, path);
  } catch (...) {
    file.reset();
    try {
      files.remove(temporary);
    } catch (const std::exception&) {
      // The first failure is the one to report.
    }
    throw;
  }
  files.sync_folder(folder);
}

}  // namespace troupe
