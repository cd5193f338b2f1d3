#include "troupe/runtime/data/files/zip_archive.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/files/deflate.hpp"
#include "troupe/runtime/data/files/file_kind.hpp"

#include <algorithm>
#include <limits>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <libdeflate.h>

namespace troupe {

namespace {

constexpr uint32_t kEndSignature = 0x06054b50, kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr uint32_t kCentralSignature = 0x02014b50, kLocalSignature = 0x04034b50;
constexpr std::size_t kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20, kCentralBytes = 46, kLocalBytes = 30;
constexpr std::size_t kLongestComment = 65535;

/// Little-endian numbers of the archive; refuses what lies outside of it.
class ZipBytes {
 public:
  ZipBytes(std::span<const std::byte> all, const std::string& source) : all_(all), source_(source) {}

  std::size_t size() const { return all_.size(); }
  /// For bytes without an end record: what they begin as, if that is something else, or `why`.
  [[noreturn]] void refuse_other(const std::string& why) const {
    const auto start = all_.first(std::min(all_.size(), file_kind_bytes));
    const auto kind = file_kind(std::string_view(reinterpret_cast<const char*>(start.data()), start.size()));
    const bool is_known = kind != FileKind::unknown && kind != FileKind::zip;
    refuse("is no zip archive" + (is_known ? " but " + describe(kind) : why));
  }
  [[noreturn]] void refuse(const std::string& why) const { throw UsageError(source_ + ": " + why); }
  std::span<const std::byte> part(uint64_t offset, uint64_t length, const std::string& what) const {
    if (offset > all_.size() || length > all_.size() - offset) {
      refuse(what + " would be at bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) +
             ", the archive has " + std::to_string(all_.size()) + ": it is cut off or damaged");
    }
    return all_.subspan(offset, length);
  }

 private:
  std::span<const std::byte> all_;
  const std::string& source_;
};

/// A number of `bytes` bytes at `at` of a record, which was checked to be so long.
uint64_t zip_number(std::span<const std::byte> record, std::size_t at, std::size_t bytes) {
  uint64_t out = 0;
  for (std::size_t i = bytes; i-- > 0;) out = out << 8 | std::to_integer<uint64_t>(record[at + i]);
  return out;
}

struct ZipDirectory {
  uint64_t offset = 0, size = 0, members = 0;
};

/// Where the record at the archive's end begins; a comment may follow it.
std::size_t end_of_directory(const ZipBytes& bytes) {
  if (bytes.size() < kEndBytes) bytes.refuse_other(": it has " + std::to_string(bytes.size()) + " bytes");
  const std::size_t last = bytes.size() - kEndBytes;
  for (std::size_t back = 0; back <= std::min(last, kLongestComment); ++back) {
    const auto record = bytes.part(last - back, kEndBytes, "the end record");
    if (zip_number(record, 0, 4) == kEndSignature && zip_number(record, 20, 2) == back) return last - back;
  }
  bytes.refuse_other(", or cut off: the record at its end is missing");
}

ZipDirectory find_directory(const ZipBytes& bytes) {
  const std::size_t end = end_of_directory(bytes);
  const auto record = bytes.part(end, kEndBytes, "the end record");
  ZipDirectory out{
      .offset = zip_number(record, 16, 4), .size = zip_number(record, 12, 4), .members = zip_number(record, 10, 2)};
  bool one_disk = zip_number(record, 4, 2) == 0 && zip_number(record, 6, 2) == 0;
  const bool has_locator =
      end >= kLocator64Bytes &&
      zip_number(bytes.part(end - kLocator64Bytes, kLocator64Bytes, "the locator"), 0, 4) == kLocator64Signature;
  if (has_locator) {
    const auto locator = bytes.part(end - kLocator64Bytes, kLocator64Bytes, "the locator");
    const auto large = bytes.part(zip_number(locator, 8, 8), kEnd64Bytes, "the 64-bit end record");
    if (zip_number(large, 0, 4) != kEnd64Signature) bytes.refuse("its 64-bit end record is damaged");
    out = {.offset = zip_number(large, 48, 8), .size = zip_number(large, 40, 8), .members = zip_number(large, 32, 8)};
    one_disk = zip_number(large, 16, 4) == 0 && zip_number(large, 20, 4) == 0;
  }
  if (!one_disk) bytes.refuse("is one part of an archive of several files; join them first (zip -s 0)");
  return out;
}

/// Takes the 64-bit numbers that a field of the directory's entry holds for those that are all ones.
void take_large_numbers(const ZipBytes& bytes, std::span<const std::byte> extra, uint64_t& size, uint64_t& packed,
                        uint64_t& offset, const std::string& member) {
  constexpr uint64_t elsewhere = std::numeric_limits<uint32_t>::max();
  if (size != elsewhere && packed != elsewhere && offset != elsewhere) return;
  while (extra.size() >= 4) {
    const auto id = zip_number(extra, 0, 2), length = zip_number(extra, 2, 2);
    if (length > extra.size() - 4) break;
    auto field = extra.subspan(4, length);
    extra = extra.subspan(4 + length);
    if (id != 1) continue;
    for (uint64_t* number : {&size, &packed, &offset}) {
      if (*number != elsewhere) continue;
      if (field.size() < 8) bytes.refuse("the 64-bit sizes of " + member + " are cut off");
      *number = zip_number(field, 0, 8);
      field = field.subspan(8);
    }
    return;
  }
}

/// Where the member's bytes lie, behind a header of its own.
std::span<const std::byte> content_of_member(const ZipBytes& bytes, uint64_t offset, uint64_t packed,
                                             const std::string& member) {
  const auto local = bytes.part(offset, kLocalBytes, "the header of " + member);
  if (zip_number(local, 0, 4) != kLocalSignature) {
    bytes.refuse("there is no header of " + member + " at byte " + std::to_string(offset) + ": the archive is damaged");
  }
  const uint64_t begin = offset + kLocalBytes + zip_number(local, 26, 2) + zip_number(local, 28, 2);
  return bytes.part(begin, packed, member);
}

ZipMember read_member(const ZipBytes& bytes, std::span<const std::byte> entry, std::span<const std::byte> name,
                      std::span<const std::byte> extra) {
  ZipMember out;
  out.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
  const auto member = out.text();
  const auto flags = zip_number(entry, 8, 2), method = zip_number(entry, 10, 2);
  if ((flags & 1) != 0) bytes.refuse(member + " is encrypted; pack it without a password");
  if (method != 0 && method != 8) {
    bytes.refuse(member + " is packed by method " + std::to_string(method) +
                 "; stored and deflated members are read (methods 0 and 8)");
  }
  out.is_deflated = method == 8;
  out.crc = static_cast<uint32_t>(zip_number(entry, 16, 4));
  uint64_t packed = zip_number(entry, 20, 4), offset = zip_number(entry, 42, 4);
  out.size = zip_number(entry, 24, 4);
  take_large_numbers(bytes, extra, out.size, packed, offset, member);
  out.content = content_of_member(bytes, offset, packed, member);
  const bool is_possible = out.is_deflated ? out.size / kMostDeflated <= packed : out.size == packed;
  if (!is_possible) {
    bytes.refuse(member + " is to have " + std::to_string(out.size) + " bytes, for which " + std::to_string(packed) +
                 " lie in the archive: it is damaged");
  }
  return out;
}

/// A few bytes that stand for many members are how small archives unpack to huge ones.
void check_overlaps(const ZipBytes& bytes, const std::vector<ZipMember>& members) {
  std::vector<const ZipMember*> order;
  for (const auto& member : members) {
    if (!member.content.empty()) order.push_back(&member);
  }
  std::ranges::sort(order, {}, [](const auto* member) { return member->content.data(); });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->content.data() + order[i - 1]->content.size() <= order[i]->content.data()) continue;
    bytes.refuse("members '" + shown(order[i - 1]->name) + "' and '" + shown(order[i]->name) + "' overlap");
  }
}

}  // namespace

std::string ZipMember::text() const {
  return "member '" + shown(name) + "'";
}

std::vector<ZipMember> zip_members(std::span<const std::byte> archive, const std::string& source) {
  const ZipBytes bytes(archive, source);
  const auto directory = find_directory(bytes);
  auto left = bytes.part(directory.offset, directory.size, "the list of members");
  if (directory.members > left.size() / kCentralBytes) {
    bytes.refuse("its list of " + std::to_string(directory.members) + " members has " + std::to_string(left.size()) +
                 " bytes: it is damaged");
  }
  std::vector<ZipMember> out;
  std::unordered_set<std::string> names;
  for (uint64_t i = 0; i < directory.members; ++i) {
    const bool is_whole = left.size() >= kCentralBytes && zip_number(left, 0, 4) == kCentralSignature;
    const uint64_t name = is_whole ? zip_number(left, 28, 2) : 0, extra = is_whole ? zip_number(left, 30, 2) : 0;
    const uint64_t length = kCentralBytes + name + extra + (is_whole ? zip_number(left, 32, 2) : 0);
    if (!is_whole || length > left.size()) {
      bytes.refuse("its list of members is damaged at number " + std::to_string(i));
    }
    out.push_back(
        read_member(bytes, left, left.subspan(kCentralBytes, name), left.subspan(kCentralBytes + name, extra)));
    if (!names.insert(out.back().name).second) bytes.refuse("it has two members '" + shown(out.back().name) + "'");
    left = left.subspan(length);
  }
  check_overlaps(bytes, out);
  return out;
}

void inflate_member(const ZipMember& member, std::span<std::byte> out, const std::string& source) {
  std::size_t made = 0;
  switch (libdeflate_deflate_decompress(make_decompressor().get(), member.content.data(), member.content.size(),
                                        out.data(), out.size(), &made)) {
    case LIBDEFLATE_SUCCESS:
      if (made == out.size()) return;
      throw UsageError(source + " cannot be unpacked: its data end after " + std::to_string(made) + " of " +
                       std::to_string(out.size()) + " bytes");
    case LIBDEFLATE_INSUFFICIENT_SPACE:
      throw UsageError(source + " cannot be unpacked: its data go on behind its " + std::to_string(out.size()) +
                       " bytes");
    default: throw UsageError(source + " cannot be unpacked: its data are damaged");
  }
}

void check_crc(const ZipMember& member, std::span<const std::byte> unpacked, const std::string& source) {
  if (libdeflate_crc32(0, unpacked.data(), unpacked.size()) == member.crc) return;
  throw UsageError(source + " is damaged: its checksum differs");
}

}  // namespace troupe
