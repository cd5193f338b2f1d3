// Archives of numpy's arrays.
#pragma once

#include "troupe/runtime/data/arrays/npy.hpp"

#include <torch/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

class MappedFile;
struct ZipMember;

/// The arrays of an .npz by name (https://numpy.org/doc/stable/reference/generated/numpy.savez.html); each is read when
/// it is asked for. Any thread may use it; copies share the file.
class NpzFile {
 public:
  /// In the order of the archive, without ".npy". Members that are no arrays are left out.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(std::string_view name) const;
  /// The array, as read_npy gives it. A compressed one is unpacked at each call. Throws UsageError for a name that is
  /// not there (with the nearest one), as read_npy does, for damaged data and for more than `most_bytes` of them.
  torch::Tensor operator[](std::string_view name) const;

 private:
  friend NpzFile read_npz(const std::filesystem::path& path, const ArrayOptions& options);
  NpzFile(const std::filesystem::path& path, const ArrayOptions& options);

  std::shared_ptr<const MappedFile> file_;
  std::shared_ptr<const std::vector<ZipMember>> members_;  // of names_
  std::vector<std::string> names_;
  ArrayOptions options_;
};

/// Opens an archive that np.savez or np.savez_compressed wrote:
///
///     const auto data = read_npz("mnist.npz");
///     auto train = std::make_shared<TensorDataset>(data["x_train"], data["y_train"]);
///
/// Arrays that are stored without compression are mapped if their numbers are aligned in the file, which zip does not
/// see to; the others become a copy, whose checksum is compared. A large array that is to be mapped had better be an
/// .npy.
///
/// Throws UsageError naming the file and the member: for what is no whole archive, encrypted members, other compression
/// than deflate, names given twice, members that overlap, and sizes that do not fit each other.
NpzFile read_npz(const std::filesystem::path& path, const ArrayOptions& options = {});

}  // namespace troupe
