// Where the samples of a shard are.
#pragma once

#include "troupe/runtime/data/files/file_reader.hpp"
#include "troupe/runtime/data/shards/gzip_bytes.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

/// "images/0001.seg.png" is the file "seg.png" of the sample "images/0001": the name is parted at the first dot of its
/// last component, and the extension has small letters, as WebDataset has it (tariterators.py, base_plus_ext). Nothing
/// for names that are no part of a sample: without a dot, or hidden, such as the "._0001.jpg" of macOS's tar.
std::optional<std::pair<std::string, std::string>> key_and_extension(const std::string& name);

/// A file of a sample. Offsets are those of the uncompressed content.
struct ShardFile {
  uint64_t offset = 0;
  uint64_t size = 0;
  uint32_t extension = 0;  ///< position in ShardIndex::extensions
};

/// The samples of one shard in the order of the archive. Their keys are different, and so are the extensions within
/// one.
struct ShardIndex {
  uint64_t shard_size = 0;  ///< bytes of the file
  bool is_gzip = false;
  std::vector<std::string> extensions;
  std::string keys;                 ///< one after the other
  std::vector<uint32_t> key_ends;   ///< for each sample, where its key ends in `keys`
  std::vector<uint32_t> file_ends;  ///< for each sample, where its files end in `files`
  std::vector<ShardFile> files;
  std::shared_ptr<const GzipPoints> points;  ///< of a gzipped shard

  std::size_t samples() const { return key_ends.size(); }
  std::string_view key(std::size_t sample) const {
    const std::size_t start = sample == 0 ? 0 : key_ends[sample - 1];
    return std::string_view(keys).substr(start, key_ends[sample] - start);
  }
  std::span<const ShardFile> files_of(std::size_t sample) const {
    const std::size_t start = sample == 0 ? 0 : file_ends[sample - 1];
    return std::span(files).subspan(start, file_ends[sample] - start);
  }
};

/// Bytes of content between two points of a gzipped shard, at least. Their windows then take 1.6 % of the content in
/// the index's file, and a sample is found by decompressing 1 MiB before it, on the average.
constexpr uint64_t kGzipSpacing = uint64_t{1} << 21;

/// Reads all headers of a shard, of a gzipped one all of it. Throws UsageError with the shard and an offset for what
/// TarWalker refuses, for an empty file, for a sample whose files are not next to each other or that has a file twice,
/// and for a hard link to what is no file before it.
ShardIndex build_shard_index(const std::shared_ptr<const FileReader>& shard, uint64_t gzip_spacing = kGzipSpacing);

/// What tells a shard from what it was when its index was written.
struct ShardStamp {
  uint64_t size = 0;  ///< bytes
  int64_t mtime = 0;  ///< ticks of the file system's clock
  bool operator==(const ShardStamp&) const = default;
};

/// An index as the content of a file, little-endian with a checksum at its end.
std::string shard_index_to_bytes(const ShardIndex& index, const ShardStamp& stamp);
/// Reads it back. Throws UsageError for what is no such content, is of another version or of another stamp, and for
/// anything in it that cannot be: what a file claims is never used as a size of memory or as a position. (A file may
/// still lie about the shard's content. Reading then gives the wrong bytes of that shard or an error.)
ShardIndex shard_index_from_bytes(std::string_view bytes, const ShardStamp& stamp);

/// How the index of a shard is kept.
struct ShardIndexOptions {
  /// Folder of the index files; nothing: each next to its shard.
  std::optional<std::filesystem::path> folder = std::nullopt;
  /// false: it is built anew each time and kept in memory alone.
  bool keep = true;
  RetryPolicy retry = {};
};

/// The file that holds the index of `shard`: its name with ".index" at the end; in a folder with a checksum of its
/// absolute path before that, since shards of several folders may share a name.
std::filesystem::path shard_index_path(const std::filesystem::path& shard, const ShardIndexOptions& options);

/// A shard's index, from its file if that is there and fits; else it is built, and the file is written if that can be
/// done. Processes that do so at once do not disturb each other: each writes a file of its own and renames it. The
/// points of a gzipped shard are left out if the file has them: `load_gzip_points` reads them when the shard is opened.
ShardIndex load_shard_index(const std::filesystem::path& shard, const ShardIndexOptions& options);
/// Null if the file does not fit any more, or is gone: reading then begins at the shard's front.
std::shared_ptr<const GzipPoints> load_gzip_points(const std::filesystem::path& shard,
                                                   const ShardIndexOptions& options);

}  // namespace troupe
