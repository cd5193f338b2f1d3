#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include "troupe/modules/number_text.hpp"
#include "troupe/runtime/host_name.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include <unistd.h>

namespace troupe {

namespace {

constexpr std::string_view temporary_prefix = ".troupe-", temporary_ending = ".tmp";

// ".troupe-<host>-<process>-<number>.tmp" of a process of this host that is gone.
bool is_abandoned(std::string_view name) {
  if (!name.starts_with(temporary_prefix) || !name.ends_with(temporary_ending)) return false;
  name = name.substr(temporary_prefix.size(), name.size() - temporary_prefix.size() - temporary_ending.size());
  const std::string own = host_name() + "-";
  if (!name.starts_with(own)) return false;
  name.remove_prefix(own.size());
  const auto process = number_from_text<pid_t>(name.substr(0, name.find('-')));
  return process && *process > 0 && kill(*process, 0) != 0 && errno == ESRCH;
}

std::unique_ptr<OutputFile> create_temporary(const std::filesystem::path& folder, FileSystem& files) {
  for (int attempt = 0;; ++attempt) {
    try {
      return files.create(temporary_path(folder));
    } catch (const FileError& error) {
      if (error.code().value() != EEXIST || attempt == 1000) throw;
    }
  }
}

}  // namespace

std::filesystem::path temporary_path(const std::filesystem::path& folder) {
  static std::atomic<uint64_t> counter{0};
  return folder / (std::string(temporary_prefix) + host_name() + "-" + std::to_string(::getpid()) + "-" +
                   std::to_string(counter++) + std::string(temporary_ending));
}

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

std::size_t remove_abandoned_files(const std::filesystem::path& folder) {
  std::size_t removed = 0;
  std::error_code error;  // what cannot be read or deleted stays
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (!is_abandoned(entry->path().filename().string()) || !entry->is_regular_file(ignored)) continue;
    removed += std::filesystem::remove(entry->path(), ignored) ? 1 : 0;
  }
  return removed;
}

}  // namespace troupe
