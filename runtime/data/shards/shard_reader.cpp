#include "troupe/runtime/data/shards/shard_reader.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t kOpenShards = 8;
constexpr std::size_t kOpenGzipShards = 2;
// Between two files that are read as one.
constexpr uint64_t kReadThrough = uint64_t{1} << 16;
// Memory for a file grows by this: an index may claim more than there is.
constexpr uint64_t kReadPart = uint64_t{1} << 24;

}  // namespace

ShardReader::ShardReader(std::shared_ptr<const ShardTable> table, ShardIndexOptions options)
    : table_(std::move(table)), options_(std::move(options)) {}

ShardBytes& ShardReader::open(std::size_t number) {
  const auto found = std::ranges::find(open_, number, &Open::shard);
  if (found != open_.end()) {
    std::rotate(found, found + 1, open_.end());
    return *open_.back().bytes;
  }
  const auto& shard = table_->shard(number);
  const auto like = [&](const Open& each) { return each.is_gzip == shard.is_gzip; };
  if (std::ranges::count_if(open_, like) >=
      static_cast<std::ptrdiff_t>(shard.is_gzip ? kOpenGzipShards : kOpenShards)) {
    open_.erase(std::ranges::find_if(open_, like));
  }
  auto file = std::make_shared<const FileReader>(shard.path, options_.retry);
  if (static_cast<uint64_t>(file->size()) != shard.size) {
    throw UsageError(shard.path.string() + " was changed meanwhile: it has " + std::to_string(file->size()) +
                     " bytes, and had " + std::to_string(shard.size) + " when its index was read");
  }
  std::unique_ptr<ShardBytes> bytes;
  if (shard.is_gzip) {
    bytes = std::make_unique<GzipBytes>(std::move(file),
                                        shard.points ? shard.points : shard.in_use->load(shard.path, options_));
  } else {
    bytes = std::make_unique<PlainBytes>(std::move(file));
  }
  open_.push_back({number, shard.is_gzip, std::move(bytes)});
  return *open_.back().bytes;
}

/// Reads behind the first `filled` bytes of content_; returns how many there are then.
std::size_t ShardReader::append(ShardBytes& from, uint64_t offset, uint64_t size, std::size_t filled) {
  for (uint64_t done = 0; done < size;) {
    const auto part = static_cast<std::size_t>(std::min(size - done, kReadPart));
    if (content_.size() < filled + part) content_.resize(filled + part);
    if (from.read(offset + done, content_.data() + filled, part) != part) {
      from.refuse(offset, std::to_string(size) + " bytes were expected; the shard ends before");
    }
    done += part;
    filled += part;
  }
  return filled;
}

const std::vector<std::span<const std::byte>>& ShardReader::read(int64_t sample, std::size_t shard) {
  const auto places = table_->places(sample);
  fields_.assign(places.size(), {});
  ShardBytes& bytes = open(shard);
  std::vector<std::size_t> order(places.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t field) { return places[field].offset; });
  std::vector<std::size_t> starts(places.size());  // in content_, which may move as it grows
  std::size_t filled = 0;
  for (std::size_t i = 0; i < order.size();) {
    const uint64_t first = places[order[i]].offset;
    uint64_t end = first;
    for (; i < order.size() && places[order[i]].offset <= end + kReadThrough; ++i) {
      const auto& place = places[order[i]];
      starts[order[i]] = filled + static_cast<std::size_t>(place.offset - first);
      end = std::max(end, place.offset + place.size);
    }
    filled = append(bytes, first, end - first, filled);
  }
  for (std::size_t field = 0; field < places.size(); ++field) {
    fields_[field] = std::span(content_).subspan(starts[field], places[field].size);
  }
  return fields_;
}

}  // namespace troupe
