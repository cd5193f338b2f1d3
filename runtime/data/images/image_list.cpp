#include "troupe/runtime/data/images/image_list.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/process/cpu_budget.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include <dirent.h>
#include <sys/stat.h>

namespace troupe {

namespace {

constexpr std::array<std::string_view, 3> kImageEndings = {".jpg", ".jpeg", ".png"};

bool has_image_ending(std::string_view name) {
  const auto small = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::any_of(kImageEndings, [&](std::string_view ending) {
    return name.size() > ending.size() &&
           std::ranges::equal(name.substr(name.size() - ending.size()), ending, {}, small);
  });
}

/// Names of files, one behind the other in one string: a folder may have a million.
class Names {
 public:
  void add(std::string_view name) {
    places_.push_back({first_bytes(name), bytes_.size(), name.size()});
    bytes_ += name;
  }
  bool is_empty() const { return places_.empty(); }
  std::size_t count() const { return places_.size(); }
  std::size_t bytes() const { return bytes_.size(); }
  std::string_view front() const { return at(places_.front()); }
  /// In the order of their bytes.
  void sort() {
    std::ranges::sort(places_, [this](const Place& a, const Place& b) {
      return a.first_bytes != b.first_bytes ? a.first_bytes < b.first_bytes : at(a) < at(b);
    });
  }
  template <class Use>
  void for_each(Use use) const {
    for (const auto& place : places_) use(at(place));
  }

 private:
  struct Place {
    uint64_t first_bytes;  // decide most comparisons
    std::size_t begin, size;
  };
  /// As a number that is the larger the later the bytes are in the order of memcmp; names have no byte 0.
  static uint64_t first_bytes(std::string_view name) {
    uint64_t out = 0;
    for (std::size_t i = 0; i < sizeof out; ++i) {
      out = out << 8 | (i < name.size() ? static_cast<unsigned char>(name[i]) : 0U);
    }
    return out;
  }
  std::string_view at(const Place& place) const { return std::string_view(bytes_).substr(place.begin, place.size); }

  std::string bytes_;
  std::vector<Place> places_;
};

/// What a folder has whose name does not begin with a dot.
struct FolderEntries {
  std::vector<std::string> folders;
  Names images;
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
      out.images.add(name);
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
    throw UsageError(
        "the folder " + root.string() + " has no sub-folders; one for each class was expected, with images" +
        (top.images.is_empty() ? std::string() : ", not images such as '" + shown(top.images.front()) + "'"));
  }
  std::ranges::sort(top.folders);
  classes_ = std::move(top.folders);
  images_ = read_classes(allow_empty);
  class_firsts_.reserve(images_.size());
  for (const auto& each : images_) {
    class_firsts_.push_back(size_);
    size_ += each.size();
  }
}

/// Several folders at a time: the time of each goes to the system, and on a server to waiting for it.
std::vector<ImageList::Class> ImageList::read_classes(bool allow_empty) const {
  constexpr std::size_t fewest_threads = 4, most_threads = 16;
  std::vector<Class> out(classes_.size());
  std::vector<std::exception_ptr> thrown(classes_.size());
  std::atomic<std::size_t> next = 0;
  const auto read_some = [&] {
    for (std::size_t i = next++; i < out.size(); i = next++) {
      try {
        out[i] = read_class(classes_[i], allow_empty);
      } catch (...) {
        thrown[i] = std::current_exception();
        next = out.size();  // those before it are read or in the making
      }
    }
  };
  {
    std::vector<std::jthread> others;
    const std::size_t threads = std::min(out.size(), std::clamp(usable_processors(), fewest_threads, most_threads));
    try {
      while (others.size() + 1 < threads) others.emplace_back(read_some);
    } catch (const std::system_error&) {
      // No more threads may be had: those that are there read all.
    }
    read_some();
  }
  for (const auto& error : thrown) {
    if (error) std::rethrow_exception(error);
  }
  return out;
}

ImageList::Class ImageList::read_class(const std::string& name, bool allow_empty) const {
  constexpr std::size_t most_levels = 40;
  int64_t other_files = 0;
  std::string an_other_file;
  // In the order of folders' whole paths, as torchvision has it: "a-b/x" comes before "a/x".
  std::map<std::string, Names> found;
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
    if (!entries.images.is_empty()) found.emplace(folder, std::move(entries.images));
  }
  if (found.empty() && !allow_empty) {
    throw UsageError("the class folder " + (root_ / name).string() + " has no images (.jpg, .jpeg, .png)" +
                     other_files_text(other_files, an_other_file) + "; allow_empty lets it be a class without images");
  }
  Class out;
  std::size_t images = 0, bytes = 0;
  for (const auto& each : found) images += each.second.count(), bytes += each.second.bytes();
  out.folders.reserve(found.size());
  out.names.reserve(bytes);
  out.name_ends.reserve(images);
  for (auto& [folder, names] : found) {
    out.folders.push_back({folder, out.size()});
    names.sort();
    names.for_each([&](std::string_view each) {
      out.names += each;
      out.name_ends.push_back(out.names.size());
    });
  }
  return out;
}

std::filesystem::path ImageList::path(int64_t index) const {
  const auto label = static_cast<std::size_t>(this->label(index));
  const auto& [folders, names, name_ends] = images_.at(label);
  const int64_t in_class = index - class_firsts_[label];
  const auto at = static_cast<std::size_t>(in_class);
  const uint64_t begin = at == 0 ? 0 : name_ends.at(at - 1);
  const auto after = std::ranges::upper_bound(folders, in_class, {}, &Folder::first);
  return root_ / std::prev(after)->path / std::string_view(names).substr(begin, name_ends.at(at) - begin);
}

int64_t ImageList::label(int64_t index) const {
  // Of classes without images, which begin where the next one does, it is the last that counts.
  return std::ranges::upper_bound(class_firsts_, index) - class_firsts_.begin() - 1;
}

int64_t ImageList::bytes() const {
  std::size_t total = sizeof *this + class_firsts_.capacity() * sizeof(int64_t) + images_.capacity() * sizeof(Class) +
                      classes_.capacity() * sizeof(std::string);
  for (const auto& each : images_) {
    total +=
        each.names.capacity() + each.name_ends.capacity() * sizeof(uint64_t) + each.folders.capacity() * sizeof(Folder);
    for (const auto& folder : each.folders) total += folder.path.capacity();
  }
  for (const auto& name : classes_) total += name.capacity();
  return static_cast<int64_t>(total);
}

}  // namespace troupe
