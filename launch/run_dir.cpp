#include "troupe/launch/run_dir.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/type_name.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <system_error>

#include <unistd.h>

namespace troupe {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, const std::error_code& error) {
  throw UsageError("cannot write the run's folder " + path.string() + ": " + error.message() +
                   "; choose another with --trainer.default_root_dir");
}

int first_free_version(const fs::path& parent) {
  int next = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("version_")) continue;
    int number = 0;
    const auto [end, failed] = std::from_chars(name.data() + 8, name.data() + name.size(), number);
    if (failed == std::errc() && end == name.data() + name.size() && number < 1'000'000'000) {
      next = std::max(next, number + 1);
    }
  }
  return next;
}

// What killed runs have left beside the new one.
void remove_abandoned_files_below(const fs::path& parent) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    if (!entry.path().filename().string().starts_with("version_")) continue;
    remove_abandoned_files(entry.path());
    remove_abandoned_files(entry.path() / "checkpoints");
  }
}

}  // namespace

fs::path create_run_dir(const fs::path& root, const std::string& name) {
  const fs::path parent = fs::absolute(root) / name;
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) refuse(parent, error);
  remove_abandoned_files_below(parent);
  for (int version = first_free_version(parent);; ++version) {
    const fs::path path = parent / ("version_" + std::to_string(version));
    const bool created = fs::create_directory(path, error);
    if (error) refuse(path, error);
    if (!created) continue;  // another process was faster
    if (access(path.c_str(), W_OK) != 0) refuse(path, std::error_code(errno, std::generic_category()));
    return path;
  }
}

std::vector<std::string> run_names(const fs::path& root) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    if (first_free_version(entry.path()) > 0) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::string snake_case_class_name(const std::string& class_name) {
  const std::string name = local_type_name(class_name).base;
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const auto c = static_cast<unsigned char>(name[i]);
    const bool follows_lower = i > 0 && std::islower(static_cast<unsigned char>(name[i - 1]));
    const bool begins_word = i > 0 && i + 1 < name.size() && std::islower(static_cast<unsigned char>(name[i + 1]));
    if (std::isupper(c) && i > 0 && (follows_lower || begins_word) && out.back() != '_') out += '_';
    out += std::isalnum(c) ? static_cast<char>(std::tolower(c)) : '_';
  }
  return out.empty() ? "run" : out;
}

}  // namespace troupe
