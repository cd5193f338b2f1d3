// Tar shards and their indices.
#pragma once

#include "tests/fuzz/target.hpp"
#include "tests/support/file_content.hpp"
#include "tests/support/tar_archive.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/runtime/checkpoint/checksum.hpp"
#include "troupe/runtime/data/shards/gzip_bytes.hpp"
#include "troupe/runtime/data/shards/shard_index.hpp"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace troupe::fuzz {

/// Two samples, with the kinds of headers that archives have.
inline std::string tar_seed() {
  return tar_entry({"dir/", "", '5'}) + tar_entry({"dir/a.jpg", "pixels"}) + tar_entry({"dir/a.cls", "7"}) +
         tar_entry({"././@LongLink", std::string(120, 'n') + ".jpg" + '\0', 'L'}) + tar_entry({"cut", "more pixels"}) +
         tar_entry({"x", pax_record("path=b.jpg") + pax_record("size=5"), 'x'}) + tar_entry({"short", "hello"}) +
         tar_entry({"b.cls", "", '1', "dir/a.cls"}) + tar_end();
}

/// Reads the shard's headers and the files that they tell of, those at the end first.
inline void read_shard(const std::filesystem::path& path) {
  const auto file = std::make_shared<const FileReader>(path, RetryPolicy{.retries = 0});
  const auto index = build_shard_index(file, 64);
  std::unique_ptr<ShardBytes> bytes = std::make_unique<PlainBytes>(file);
  if (index.is_gzip) bytes = std::make_unique<GzipBytes>(file, index.points);
  for (std::size_t i = index.files.size(); i-- > 0;) {
    std::string content(std::min<std::size_t>(index.files[i].size, 1 << 16), '\0');
    (void)bytes->read(index.files[i].offset, content.data(), content.size());
  }
}

/// An index with the right stamp and, in place of its last 16 bytes, the right checksum: damage is to be found by what
/// it breaks.
inline std::string with_index_frame(std::string bytes, const ShardStamp& stamp) {
  if (bytes.size() < 48) return bytes;
  std::memcpy(bytes.data() + 16, &stamp, sizeof(stamp));
  bytes.resize(bytes.size() - 16);
  return bytes + Checksum().add(bytes).hex();
}

inline void add_shard_targets(std::vector<Target>& all, const TempDir& dir) {
  const auto in_file = [&dir](const std::string& name) {
    return [path = dir / name](const std::string& bytes) {
      put(path, bytes);
      read_shard(path);
    };
  };
  all.push_back({"tar", {tar_seed(), tar_seed().substr(0, 2560)}, in_file("a.tar")});
  all.push_back({"gzip tar",
                 {gzipped(tar_seed(), 256), gzipped(tar_seed().substr(0, 1500)) + gzipped(tar_seed().substr(1500))},
                 in_file("a.tar.gz")});
  const auto shard = dir / "index.tar.gz";
  put(shard, gzipped(tar_seed(), 256));
  const auto file = std::make_shared<const FileReader>(shard);
  const ShardStamp stamp{static_cast<uint64_t>(file->size()), 31};
  all.push_back(
      {"tar index", {shard_index_to_bytes(build_shard_index(file, 64), stamp)}, [file, stamp](const auto& bytes) {
         const auto index = shard_index_from_bytes(with_index_frame(bytes, stamp), stamp);
         GzipBytes content(file, index.points);
         for (std::size_t i = 0; i < index.samples(); ++i) (void)index.key(i), (void)index.files_of(i);
         for (const auto& each : index.files) {
           std::string found(std::min<std::size_t>(each.size, 1 << 16), '\0');
           (void)content.read(each.offset, found.data(), found.size());
         }
       }});
}

}  // namespace troupe::fuzz
