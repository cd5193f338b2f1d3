// The bytes of the tensors of a .pth file.
#pragma once

#include "troupe/runtime/data/files/zip_archive.hpp"

#include <c10/core/Storage.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace troupe {

/// Members `<archive>/data/<key>` as LibTorch's storages; one that several tensors share is one storage. They are the
/// mapped file's memory where that is aligned to 8 bytes (torch.save aligns to 64) and stored, and else a copy.
class PthStorages {
 public:
  /// `members` have `folder` ("archive/data/") in front of their keys. `owner` keeps their bytes; without one all are
  /// copied. Not more than `most_bytes` are unpacked of deflated members together.
  PthStorages(const std::vector<ZipMember>& members, const std::string& folder, std::shared_ptr<const void> owner,
              int64_t most_bytes);

  /// Throws UsageError unless there is a member of that name and size.
  void check(const std::string& key, uint64_t bytes) const;
  /// The storage; it was checked. Throws UsageError for what cannot be unpacked.
  const c10::Storage& at(const std::string& key);
  /// Throws UsageError for a byte that is neither 0 nor 1: any other bool is undefined behaviour wherever it is used.
  void check_bools(const std::string& key);

 private:
  c10::Storage make(const ZipMember& member);

  std::unordered_map<std::string, const ZipMember*> members_;
  std::unordered_map<std::string, c10::Storage> made_;
  std::unordered_set<std::string> are_bools_;
  std::shared_ptr<const void> owner_;
  int64_t bytes_left_;
};

}  // namespace troupe
