// The members of a tar archive, header by header.
#pragma once

#include "troupe/runtime/data/shards/shard_bytes.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace troupe {

/// A member of an archive: a regular file, or a hard link to one that came before it.
struct TarMember {
  std::string name;
  std::string link;     ///< of a hard link, the name that it stands for; else empty
  uint64_t header = 0;  ///< offset of its first header
  uint64_t offset = 0;  ///< of its data
  uint64_t size = 0;    ///< of its data, in bytes
};

/// Walks over the headers of an archive and reads no data: old v7, ustar, GNU tar's long names and pax headers
/// (https://www.gnu.org/software/tar/manual/html_node/Standard.html and
/// https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html). An archive may end without its blocks of
/// zeros, where a header would begin.
///
/// `next` throws UsageError, naming the file and the offset of the header, for a wrong checksum, an archive that is cut
/// off, data beyond its end, sizes that are no sizes, names that are absolute or climb ("..") or hold a NUL, symbolic
/// links, devices, pipes, sparse files, volumes, unknown kinds of members, extended headers of more than 1 MiB, and for
/// a second archive behind the first (made with cat). Folders are passed over. Never reads backwards.
class TarWalker {
 public:
  explicit TarWalker(ShardBytes& bytes) : bytes_(bytes) {}
  /// The next file, or nothing at the end.
  std::optional<TarMember> next();

 private:
  /// What extended headers say about the member after them.
  struct Extended {
    std::optional<std::string> name;
    std::optional<std::string> link;
    std::optional<uint64_t> size;
    bool is_sparse = false;
    std::optional<uint64_t> first;  // offset of the first of them
  };
  struct Header {
    uint64_t at = 0;
    std::string name;
    std::string link;
    uint64_t size = 0;  // bytes of data behind it
    char type = '0';
  };

  const char* block(uint64_t offset);
  std::optional<Header> header();
  std::string body(const Header& header);
  void pass(const Header& header);
  void check_last_data() const;
  void take_extended(const Header& header, Extended& own);
  void take_records(uint64_t at, std::string_view records, Extended& into) const;
  std::optional<TarMember> member(const Header& header, const Extended& own);
  void check_name(uint64_t at, const std::string& name) const;
  void check_end();

  ShardBytes& bytes_;
  uint64_t next_ = 0;  // offset of the next header
  std::vector<char> window_;
  uint64_t window_start_ = 0;
  std::size_t window_filled_ = 0;
  Header last_;      // the last one that has data
  Extended global_;  // from pax headers of type g
};

}  // namespace troupe
