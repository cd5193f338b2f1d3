// Indices of shards as files.
#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/atomic_write.hpp"
#include "troupe/runtime/checkpoint/checksum.hpp"
#include "troupe/runtime/data/shards/shard_index.hpp"

#include <bit>
#include <cstring>
#include <string_view>

namespace troupe {

namespace {

static_assert(std::endian::native == std::endian::little, "index files are little-endian");

constexpr std::string_view kShardIndexMagic = "TROUPE shards 1\n";
constexpr std::size_t kShardChecksum = 16;
constexpr std::size_t kLargestGzipWindow = std::size_t{1} << 15;

template <class Number>
void put_number(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

/// Takes numbers and texts off the front of an index.
class ShardIndexReader {
 public:
  explicit ShardIndexReader(std::string_view bytes) : rest_(bytes) {}

  template <class Number>
  Number number() {
    Number out;
    std::memcpy(&out, text(sizeof(out)).data(), sizeof(out));
    return out;
  }
  std::string_view text(uint64_t size) {
    if (size > rest_.size()) throw UsageError("an index of a shard ends too early");
    const auto out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }
  /// A number of items that take at least `bytes` each.
  std::size_t count(std::size_t bytes) {
    const auto out = number<uint64_t>();
    if (out > rest_.size() / bytes) throw UsageError("an index of a shard announces more than it holds");
    return static_cast<std::size_t>(out);
  }
  bool is_at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

[[noreturn]] void refuse_shard_index(const char* what) {
  throw UsageError(std::string("an index of a shard has ") + what);
}

ShardStamp stamp_of(const std::filesystem::path& shard) {
  std::error_code error;
  const auto size = std::filesystem::file_size(shard, error);
  const auto time = error ? std::filesystem::file_time_type() : std::filesystem::last_write_time(shard, error);
  if (error) throw UsageError("cannot open " + shard.string() + ": " + error.message());
  return {size, time.time_since_epoch().count()};
}

GzipPoints read_points(ShardIndexReader& from, const ShardStamp& stamp) {
  GzipPoints points(from.count(sizeof(uint64_t) * 2 + 1 + sizeof(uint16_t)));
  uint64_t content = 0;
  for (auto& point : points) {
    point.compressed = from.number<uint64_t>();
    point.content = from.number<uint64_t>();
    point.bits = from.number<uint8_t>();
    const auto window = from.number<uint16_t>();
    if (point.compressed == 0 || point.compressed > stamp.size || point.content < content || point.bits > 7 ||
        window > kLargestGzipWindow) {
      refuse_shard_index("a point that cannot be");
    }
    content = point.content;
    point.window = from.text(window);
  }
  return points;
}

void read_samples(ShardIndexReader& from, ShardIndex& into, uint64_t content_size) {
  const std::size_t samples = from.count(sizeof(uint32_t) * 2);
  uint32_t key_end = 0, file_end = 0;
  for (std::size_t i = 0; i < samples; ++i) {
    const auto key = from.number<uint32_t>(), file = from.number<uint32_t>();
    if (key < key_end || file < file_end) refuse_shard_index("samples that run backwards");
    into.key_ends.push_back(key_end = key);
    into.file_ends.push_back(file_end = file);
  }
  into.keys = from.text(from.count(1));
  const std::size_t files = from.count(sizeof(uint64_t) * 2 + sizeof(uint32_t));
  if (key_end != into.keys.size() || file_end != files) refuse_shard_index("other keys or files than its samples");
  into.files.resize(files);
  for (auto& file : into.files) {
    file.offset = from.number<uint64_t>();
    file.size = from.number<uint64_t>();
    file.extension = from.number<uint32_t>();
    if (file.extension >= into.extensions.size()) refuse_shard_index("a file of an unknown extension");
    if (file.size > content_size || file.offset > content_size - file.size) {
      refuse_shard_index("a file that lies beyond the shard's end");
    }
  }
}

}  // namespace

std::string shard_index_to_bytes(const ShardIndex& index, const ShardStamp& stamp) {
  std::string out(kShardIndexMagic);
  put_number(out, stamp.size);
  put_number(out, stamp.mtime);
  put_number(out, static_cast<uint8_t>(index.is_gzip));
  put_number(out, uint64_t{index.extensions.size()});
  for (const auto& extension : index.extensions) put_number(out, uint64_t{extension.size()}), out += extension;
  put_number(out, uint64_t{index.samples()});
  for (std::size_t i = 0; i < index.samples(); ++i)
    put_number(out, index.key_ends[i]), put_number(out, index.file_ends[i]);
  put_number(out, uint64_t{index.keys.size()});
  out += index.keys;
  put_number(out, uint64_t{index.files.size()});
  for (const auto& file : index.files)
    put_number(out, file.offset), put_number(out, file.size), put_number(out, file.extension);
  put_number(out, uint64_t{index.points ? index.points->size() : 0});
  for (const auto& point : index.points ? *index.points : GzipPoints()) {
    put_number(out, point.compressed), put_number(out, point.content), put_number(out, point.bits);
    put_number(out, static_cast<uint16_t>(point.window.size()));
    out += point.window;
  }
  return out + Checksum().add(out).hex();
}

ShardIndex shard_index_from_bytes(std::string_view bytes, const ShardStamp& stamp) {
  if (bytes.size() < kShardIndexMagic.size() + kShardChecksum || !bytes.starts_with(kShardIndexMagic)) {
    throw UsageError("this is no index of a shard of this version");
  }
  const auto checksum = bytes.substr(bytes.size() - kShardChecksum);
  bytes.remove_suffix(kShardChecksum);
  if (Checksum().add(bytes).hex() != checksum) refuse_shard_index("a wrong checksum: it is damaged");
  ShardIndexReader from(bytes.substr(kShardIndexMagic.size()));
  ShardStamp found;
  found.size = from.number<uint64_t>();
  found.mtime = from.number<int64_t>();
  if (found != stamp) refuse_shard_index("another size or time: the shard was changed after it");
  ShardIndex out;
  out.shard_size = stamp.size;
  out.is_gzip = from.number<uint8_t>() != 0;
  out.extensions.resize(from.count(sizeof(uint64_t)));
  for (auto& extension : out.extensions) extension = from.text(from.number<uint64_t>());
  // How large the content of a gzipped shard is, only its end tells.
  read_samples(from, out, out.is_gzip ? uint64_t{1} << 62 : stamp.size);
  auto points = read_points(from, stamp);
  if (out.is_gzip) out.points = std::make_shared<const GzipPoints>(std::move(points));
  if (!from.is_at_end()) refuse_shard_index("something behind its end");
  return out;
}

std::filesystem::path shard_index_path(const std::filesystem::path& shard, const ShardIndexOptions& options) {
  if (!options.folder) return shard.string() + ".index";
  const auto place = std::filesystem::absolute(shard).lexically_normal().string();
  return *options.folder / (shard.filename().string() + "." + Checksum().add(place).hex() + ".index");
}

ShardIndex load_shard_index(const std::filesystem::path& shard, const ShardIndexOptions& options) {
  const ShardStamp stamp = stamp_of(shard);
  const auto path = shard_index_path(shard, options);
  std::error_code ignored;
  if (options.keep && std::filesystem::is_regular_file(path, ignored)) {
    try {
      ShardIndex out = shard_index_from_bytes(FileReader(path, options.retry).read_all(), stamp);
      out.points = nullptr;
      return out;
    } catch (const UsageError&) {  // it is built anew
    }
  }
  ShardIndex out = build_shard_index(std::make_shared<const FileReader>(shard, options.retry));
  if (!options.keep) return out;
  const std::string bytes = shard_index_to_bytes(out, stamp);
  try {
    write_text_atomically(path, bytes);
    out.points = nullptr;
  } catch (const FileError&) {  // a folder for reading alone: the index stays in memory
  }
  return out;
}

std::shared_ptr<const GzipPoints> load_gzip_points(const std::filesystem::path& shard,
                                                   const ShardIndexOptions& options) {
  try {
    const auto path = shard_index_path(shard, options);
    return shard_index_from_bytes(FileReader(path, options.retry).read_all(), stamp_of(shard)).points;
  } catch (const UsageError&) {
    return nullptr;
  }
}

}  // namespace troupe
