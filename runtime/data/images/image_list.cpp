#include "troupe/runtime/data/images/image_list.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include <dirent.h>
#include <sys/stat.h>

namespace troupe {

namespace {

constexpr std::array<std::string_view, 3> kImageEndings = {".jpg", ".jpeg", ".png"};

bool has_image_ending(std::string_view name) {
  const std::string small = small_letters(std::string(name));
  return std::ranges::any_of(
      kImageEndings, [&](std::string_view ending) { return small.size() > ending.size() && small.ends_with(ending); });
}

/// The names in a folder that do not begin with a dot.
struct FolderEntries {
  std::vector<std::string> folders;
  std::vector<std::string> images;
  int64_t other_files = 0;
  std::string an_other_file;
};

enum class EntryKind { file, folder, neither };

EntryKind entry_kind(const std::string& folder, const dirent& entry) {
  if (entry.d_type == DT_REG) return EntryKind::file;
  if (entry.d_type == DT_DIR) return EntryKind::folder;
  if (entry.d_type != DT_LNK && entry.d_type != DT_UNKNOWN) return EntryKind::neither;
  struct stat status {};
  // A link into nothing is none of both; reading it would fail.
  if (::stat((folder + "/" + entry.d_name).c_str(), &status) != 0) return EntryKind::neither;
  return S_ISREG(status.st_mode) ? EntryKind::file : S_ISDIR(status.st_mode) ? EntryKind::folder : EntryKind::neither;
}

FolderEntries entries_of(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(folder.c_str()), &::closedir);
  if (!stream) throw UsageError("cannot read the folder " + folder + ": " + std::strerror(errno));
  FolderEntries out;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry && errno != 0) throw UsageError("cannot read the folder " + folder + ": " + std::strerror(errno));
    if (!entry) break;
    if (entry->d_name[0] == '.') continue;
    const std::string_view name = entry->d_name;
    const EntryKind kind = entry_kind(folder, *entry);
    if (kind == EntryKind::folder) out.folders.emplace_back(name);
    if (kind != EntryKind::file) continue;
    if (has_image_ending(name)) {
      out.images.emplace_back(name);
    } else {
      out.other_files += 1;
      if (out.an_other_file.empty() || name < out.an_other_file) out.an_other_file = name;
    }
  }
  return out;
}

std::string other_files_text(int64_t count, const std::string& one) {
  if (count == 0) return "";
  return "; it has " + std::to_string(count) + " other file" + (count == 1 ? ": '" : "s, such as '") + shown(one) + "'";
}

}  // namespace

ImageList::ImageList(const std::filesystem::path& root, bool allow_empty) : root_(root) {
  auto top = entries_of(root.string());
  if (top.folders.empty()) {
    throw UsageError("the folder " + root.string() +
                     " has no sub-folders; one for each class was expected, with images" +
                     (top.images.empty() ? std::string() : ", not images such as '" + shown(top.images.front()) + "'"));
  }
  std::ranges::sort(top.folders);
  for (const auto& name : top.folders) add_class(name, allow_empty);
  names_.shrink_to_fit();
  name_ends_.shrink_to_fit();
  folders_.shrink_to_fit();
}

void ImageList::add_class(const std::string& name, bool allow_empty) {
  constexpr std::size_t most_levels = 40;
  const int64_t first = size();
  classes_.push_back(name);
  class_firsts_.push_back(first);
  int64_t other_files = 0;
  std::string an_other_file;
  // In the order of folders' whole paths, as torchvision has it: "a-b/x" comes before "a/x".
  std::map<std::string, std::vector<std::string>> found;
  std::vector<std::pair<std::string, std::size_t>> to_read = {{name, 1}};
  while (!to_read.empty()) {
    const auto [folder, level] = std::move(to_read.back());
    to_read.pop_back();
    const std::string path = (root_ / folder).string();
    if (level > most_levels) {
      throw UsageError("the folder " + path + " lies " + std::to_string(level) +
                       " levels deep; does a link lead back?");
    }
    auto entries = entries_of(path);
    for (const auto& inner : entries.folders) to_read.emplace_back(folder + "/" + inner, level + 1);
    if (other_files == 0) an_other_file = entries.an_other_file;
    other_files += entries.other_files;
    if (!entries.images.empty()) found.emplace(folder, std::move(entries.images));
  }
  for (auto& [folder, names] : found) add_images(folder, names);
  if (size() == first && !allow_empty) {
    throw UsageError("the class folder " + (root_ / name).string() + " has no images (.jpg, .jpeg, .png)" +
                     other_files_text(other_files, an_other_file) + "; allow_empty lets it be a class without images");
  }
}

void ImageList::add_images(const std::string& folder, std::vector<std::string>& names) {
  std::ranges::sort(names);
  folders_.push_back({folder, size()});
  for (const auto& name : names) {
    names_ += name;
    name_ends_.push_back(names_.size());
  }
}

std::string_view ImageList::name(int64_t index) const {
  const uint64_t begin = name_ends_.at(static_cast<std::size_t>(index));
  return std::string_view(names_).substr(begin, name_ends_.at(static_cast<std::size_t>(index) + 1) - begin);
}

std::filesystem::path ImageList::path(int64_t index) const {
  const auto after = std::ranges::upper_bound(folders_, index, {}, &Folder::first);
  return root_ / std::prev(after)->path / name(index);
}

int64_t ImageList::label(int64_t index) const {
  // Of classes without images, which begin where the next one does, it is the last that counts.
  return std::ranges::upper_bound(class_firsts_, index) - class_firsts_.begin() - 1;
}

int64_t ImageList::bytes() const {
  std::size_t total = sizeof *this + names_.capacity() + name_ends_.capacity() * sizeof(uint64_t) +
                      class_firsts_.capacity() * sizeof(int64_t) + folders_.capacity() * sizeof(Folder) +
                      classes_.capacity() * sizeof(std::string);
  for (const auto& folder : folders_) total += folder.path.capacity();
  for (const auto& name : classes_) total += name.capacity();
  return static_cast<int64_t>(total);
}

}  // namespace troupe
