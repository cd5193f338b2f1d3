// The images below a folder, class by class.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// Paths and classes of a folder's images. A path costs the bytes of its file's name and 8 more; names of a class lie
/// one behind the other in one string, as the thread that read the class has put them there, and each folder's path is
/// there once. Immutable: threads may share it.
class ImageList {
 public:
  /// Reads the folder, several classes at a time on threads of its own: no file is opened, and none is asked for its
  /// kind if the folder's entries tell. Throws UsageError for a folder that cannot be read, has no sub-folders, or has
  /// one without images unless `allow_empty`; of several such classes it names the first.
  ImageList(const std::filesystem::path& root, bool allow_empty);

  int64_t size() const { return size_; }
  /// The path of image `index`, which begins with the folder's.
  std::filesystem::path path(int64_t index) const;
  /// The class of image `index`.
  int64_t label(int64_t index) const;
  const std::vector<std::string>& classes() const { return classes_; }
  /// Memory of the list, what is reserved included.
  int64_t bytes() const;

 private:
  struct Folder {
    std::string path;  // relative to the root
    int64_t first;     // its first image, counted in the class
  };

  /// The images of one class.
  struct Class {
    std::vector<Folder> folders;
    std::string names;
    std::vector<uint64_t> name_ends;  // of each image
    int64_t size() const { return static_cast<int64_t>(name_ends.size()); }
  };

  /// Of each name in classes().
  std::vector<Class> read_classes(bool allow_empty) const;
  Class read_class(const std::string& name, bool allow_empty) const;
  std::filesystem::path root_;
  std::vector<std::string> classes_;
  std::vector<Class> images_;          // of each class
  std::vector<int64_t> class_firsts_;  // of each class its first image
  int64_t size_ = 0;
};

}  // namespace troupe
