#include "troupe/runtime/data/shards/shard_index.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/shards/tar_walker.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <unordered_map>

namespace troupe {

namespace {

/// WebDataset leaves these out too: "__" before and after the first component of a name.
bool is_shard_metadata(std::string_view name) {
  const auto first = name.substr(0, name.find('/'));
  return first.size() >= 4 && first.starts_with("__") && first.ends_with("__");
}

/// An index in the making.
class ShardIndexBuilder {
 public:
  explicit ShardIndexBuilder(ShardBytes& bytes) : bytes_(bytes), walker_(bytes) {}

  ShardIndex build() {
    while (const auto member = walker_.next()) take(*member);
    close_sample();
    check_keys();
    return std::move(out_);
  }

 private:
  void take(const TarMember& member) {
    ShardFile file{member.offset, member.size, 0};
    if (!member.link.empty()) file = linked(member);
    places_.push_back({member.name, file});
    if (is_shard_metadata(member.name)) return;
    auto parts = key_and_extension(member.name);
    if (!parts) return;
    auto& [key, extension] = *parts;
    if (starts_.empty() || key != key_) {
      close_sample();
      key_ = key;
      starts_.push_back(member.header);
    }
    file.extension = extension_number(extension);
    if (auto& last = last_sample_of_[file.extension]; last == starts_.size()) {
      bytes_.refuse(member.header, "the sample '" + shown(key_) + "' has a second file '" + shown(extension) + "'");
    } else {
      last = starts_.size();
    }
    out_.files.push_back(file);
    check_count(member.header, out_.files.size());
  }

  /// The place of the file that a hard link stands for: tar packs a file that it has packed already as one.
  ShardFile linked(const TarMember& member) {
    for (; named_ < places_.size(); ++named_) by_name_[places_[named_].first] = named_;
    const auto found = by_name_.find(member.link);
    if (found == by_name_.end()) {
      bytes_.refuse(member.header, "'" + shown(member.name) + "' is a hard link to '" + shown(member.link) +
                                       "', which is no file before it");
    }
    return places_[found->second].second;
  }

  uint32_t extension_number(const std::string& extension) {
    const auto [at, is_new] = numbers_.try_emplace(extension, static_cast<uint32_t>(out_.extensions.size()));
    if (is_new) {
      out_.extensions.push_back(extension);
      last_sample_of_.push_back(0);
    }
    return at->second;
  }

  void close_sample() {
    if (starts_.empty()) return;
    out_.keys += key_;
    check_count(starts_.back(), out_.keys.size());
    out_.key_ends.push_back(static_cast<uint32_t>(out_.keys.size()));
    out_.file_ends.push_back(static_cast<uint32_t>(out_.files.size()));
  }

  void check_count(uint64_t at, std::size_t count) const {
    if (count > std::numeric_limits<uint32_t>::max()) bytes_.refuse(at, "the shard has more files than 2^32");
  }

  /// A key that comes back later has files that are not next to each other.
  void check_keys() const {
    std::vector<std::size_t> order(out_.samples());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto key = [&](std::size_t sample) { return out_.key(sample); };
    std::ranges::stable_sort(order, {}, key);
    const auto twice = std::ranges::adjacent_find(order, {}, key);
    if (twice == order.end()) return;
    bytes_.refuse(starts_[*(twice + 1)], "the sample '" + shown(key(*twice)) + "' of offset " +
                                             std::to_string(starts_[*twice]) +
                                             " comes back; files of a sample must be next to each other "
                                             "(tar --sort=name packs them so)");
  }

  ShardBytes& bytes_;
  TarWalker walker_;
  ShardIndex out_;
  std::string key_;                          // of the sample at hand
  std::vector<uint64_t> starts_;             // for each sample, the offset of its first header
  std::vector<std::size_t> last_sample_of_;  // for each extension, the number of the last sample that has it, from 1
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<std::pair<std::string, ShardFile>> places_;  // of all files
  std::unordered_map<std::string, std::size_t> by_name_;   // of the first named_ of them: few archives have links
  std::size_t named_ = 0;
};

}  // namespace

std::optional<std::pair<std::string, std::string>> key_and_extension(const std::string& name) {
  const auto slash = name.rfind('/');
  const std::size_t base = slash == name.npos ? 0 : slash + 1;
  const auto dot = name.find('.', base);
  if (dot == name.npos || dot == base) return std::nullopt;
  return std::pair(name.substr(0, dot), small_letters(name.substr(dot + 1)));
}

ShardIndex build_shard_index(const std::shared_ptr<const FileReader>& shard, uint64_t gzip_spacing) {
  if (shard->size() == 0) throw UsageError(shard->path().string() + " is empty; a tar archive was expected");
  if (!GzipBytes::is_gzip(*shard)) {
    PlainBytes bytes(shard);
    ShardIndex out = ShardIndexBuilder(bytes).build();
    out.shard_size = static_cast<uint64_t>(shard->size());
    return out;
  }
  GzipBytes bytes(shard, gzip_spacing);
  ShardIndex out = ShardIndexBuilder(bytes).build();
  out.shard_size = static_cast<uint64_t>(shard->size());
  out.is_gzip = true;
  out.points = bytes.points();
  return out;
}

}  // namespace troupe
