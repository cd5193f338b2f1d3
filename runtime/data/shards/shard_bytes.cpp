#include "troupe/runtime/data/shards/shard_bytes.hpp"

#include <algorithm>

namespace troupe {

std::size_t PlainBytes::read(uint64_t offset, void* to, std::size_t count) {
  const auto end = static_cast<uint64_t>(file().size());
  if (offset >= end) return 0;
  const auto part = static_cast<std::size_t>(std::min<uint64_t>(count, end - offset));
  file().read_at(offset, to, part);
  return part;
}

}  // namespace troupe
