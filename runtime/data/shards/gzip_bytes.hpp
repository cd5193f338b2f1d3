// Random access to the content of a gzipped file.
#pragma once

#include "troupe/runtime/data/shards/shard_bytes.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct z_stream_s;

namespace troupe {

/// A place within compressed data where decompressing can begin: the boundary of a deflate block
/// (https://www.rfc-editor.org/rfc/rfc1951), with the up to 32 KiB of content before it, which what follows may repeat.
/// The idea is that of zlib's example zran.c.
struct GzipPoint {
  uint64_t compressed = 0;  ///< offset in the file of the first byte of which all bits come after the point
  uint8_t bits = 0;         ///< bits of the byte before that come after the point too, 0 to 7
  uint64_t content = 0;     ///< offset in the content
  std::string window;
};

/// Points in the order of their offsets.
using GzipPoints = std::vector<GzipPoint>;

/// Content of a gzip file of one or several members. Reading on from where the last read ended costs nothing extra; a
/// seek begins at the nearest point before. What follows the last member and is no gzip member is left out, as gzip
/// does.
///
/// The checksums of gzip are verified for what is read from a member's beginning to its end, which the pass that
/// collects the points does for the whole file. Memory: 200 KiB and the points. Belongs to one thread.
class GzipBytes : public ShardBytes {
 public:
  /// Reads with points that were collected before; null: none.
  GzipBytes(std::shared_ptr<const FileReader> file, std::shared_ptr<const GzipPoints> points);
  /// Collects points at least `spacing` bytes of content apart, and so few that their windows take less than a quarter
  /// of the file.
  GzipBytes(std::shared_ptr<const FileReader> file, uint64_t spacing);
  ~GzipBytes() override;

  /// Throws UsageError, naming the offset in the compressed file too, for data that is damaged or cut off.
  std::size_t read(uint64_t offset, void* to, std::size_t count) override;
  std::optional<uint64_t> size() const override { return end_; }
  /// Those collected so far.
  std::shared_ptr<const GzipPoints> points() const { return points_; }

  /// Whether a file goes on at `offset` as gzip files begin.
  static bool is_gzip(const FileReader& file, uint64_t offset = 0);

 private:
  void start();
  void restart(const GzipPoint* point);
  void seek(uint64_t offset);
  bool fill();
  std::size_t inflate_some(char* to, std::size_t count);
  void end_member();
  void skip_trailer();
  void collect_point();
  [[noreturn]] void refuse_compressed(const std::string& why);
  uint64_t compressed_offset() const;

  std::unique_ptr<z_stream_s> stream_;
  std::vector<unsigned char> input_;
  uint64_t input_end_ = 0;  // offset in the file behind what is in input_
  bool is_raw_ = false;     // within a member that was entered at a point
  bool is_at_end_ = false;
  uint64_t at_ = 0;  // offset in the content of the next byte
  std::optional<uint64_t> end_;
  std::shared_ptr<const GzipPoints> points_;
  std::shared_ptr<GzipPoints> collected_;  // the same, while they are collected
  uint64_t spacing_ = 0;
};

}  // namespace troupe
