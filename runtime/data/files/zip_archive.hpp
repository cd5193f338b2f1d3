// The members of a zip archive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace troupe {

/// A member as the central directory describes it; its bytes lie in the archive.
struct ZipMember {
  std::string name;
  bool is_deflated = false;  ///< else stored as it is
  uint32_t crc = 0;
  uint64_t size = 0;                   ///< unpacked
  std::span<const std::byte> content;  ///< as it lies there

  /// "member 'a.npy'", for messages.
  std::string text() const;
};

/// The members of the archive (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, with the 64-bit records),
/// in the order of its central directory. Throws UsageError with `source` in front: for what is no archive or is cut
/// off, for members that do not lie in it or overlap, that are encrypted, packed in another way than zip's own
/// (deflate), or have the name of another one, and for sizes that deflate cannot reach. Members are not unpacked;
/// memory grows with the directory that is there.
std::vector<ZipMember> zip_members(std::span<const std::byte> archive, const std::string& source);

/// Unpacks a deflated member into `out`, which has its size. Throws UsageError with `source`, which names the member,
/// in front, if its data are damaged or make more or fewer bytes.
void inflate_member(const ZipMember& member, std::span<std::byte> out, const std::string& source);

/// Throws UsageError with `source`, which names the member, in front, if its bytes are not those that were packed.
void check_crc(const ZipMember& member, std::span<const std::byte> unpacked, const std::string& source);

}  // namespace troupe
