#include "troupe/runtime/data/shards/shard_table.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

namespace troupe {

namespace {

constexpr uint32_t kNoExtension = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kLargestField = std::numeric_limits<uint32_t>::max();

std::string field_choices(const std::vector<std::string>& extensions) {
  return joined(extensions, ";");
}

/// For each field of `choice`, the numbers of its extensions in the shard, in the order of preference.
std::vector<std::vector<uint32_t>> wanted_in(const ShardIndex& index, const ShardTable::Choice& choice) {
  std::vector<std::vector<uint32_t>> out;
  for (const auto& field : choice.fields) {
    auto& numbers = out.emplace_back();
    for (const auto& extension : field) {
      const auto found = std::ranges::find(index.extensions, extension);
      if (found == index.extensions.end()) continue;
      numbers.push_back(static_cast<uint32_t>(found - index.extensions.begin()));
    }
  }
  return out;
}

const ShardFile* first_of(std::span<const ShardFile> files, const std::vector<uint32_t>& wanted) {
  for (const uint32_t extension : wanted) {
    const auto found = std::ranges::find(files, extension, &ShardFile::extension);
    if (found != files.end()) return &*found;
  }
  return nullptr;
}

[[noreturn]] void refuse_incomplete(const std::filesystem::path& shard, const ShardIndex& index, std::size_t sample,
                                    const std::vector<std::string>& field) {
  const auto has =
      joined_as(index.files_of(sample), [&](const ShardFile& file) { return shown(index.extensions[file.extension]); });
  throw UsageError(shard.string() + ": the sample '" + shown(index.key(sample)) + "' has no file " +
                   shown(field_choices(field)) + ", it has " + has + "; skip_incomplete leaves such samples out");
}

}  // namespace

std::shared_ptr<const GzipPoints> SharedGzipPoints::load(const std::filesystem::path& shard,
                                                         const ShardIndexOptions& options) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto points = loaded_.lock();
  if (!points) loaded_ = points = load_gzip_points(shard, options);
  return points;
}

ShardTable::ShardTable(const std::vector<std::filesystem::path>& paths, const ShardIndexOptions& options, Choice choice)
    : fields_(choice.fields.size()), shards_(1) {
  std::vector<std::optional<ShardIndex>> indices(paths.size());
  at::parallel_for(0, static_cast<int64_t>(paths.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      indices[i] = load_shard_index(paths[i], options);
    }
  });
  for (std::size_t i = 0; i < paths.size(); ++i) {
    add(paths[i], std::move(*indices[i]), choice);
    indices[i].reset();
  }
  if (size() == 0) refuse_empty(paths, choice);
  if (choice.unique_keys) check_keys();
  keys_.shrink_to_fit();
  key_ends_.shrink_to_fit();
  places_.shrink_to_fit();
}

uint32_t ShardTable::extension_number(const std::string& extension) {
  const auto found = std::ranges::find(extensions_, extension);
  if (found != extensions_.end()) return static_cast<uint32_t>(found - extensions_.begin());
  extensions_.push_back(extension);
  return static_cast<uint32_t>(extensions_.size() - 1);
}

void ShardTable::add(const std::filesystem::path& path, ShardIndex index, const Choice& choice) {
  Shard& shard = shards_.back();
  shard.path = path;
  shard.size = index.shard_size;
  shard.is_gzip = index.is_gzip;
  shard.points = index.points;
  if (shard.is_gzip) shard.in_use = std::make_unique<SharedGzipPoints>();
  int64_t next = shard.first;
  const auto wanted = wanted_in(index, choice);
  std::vector<uint32_t> numbers(index.extensions.size(), kNoExtension);
  for (std::size_t i = 0; i < index.samples(); ++i) {
    const std::size_t before = places_.size();
    for (std::size_t field = 0; field < fields_; ++field) {
      const ShardFile* file = first_of(index.files_of(i), wanted[field]);
      if (!file && !choice.skip_incomplete) refuse_incomplete(path, index, i, choice.fields[field]);
      if (!file) break;
      if (file->size > kLargestField) {
        throw UsageError(path.string() + ": at offset " + std::to_string(file->offset) + " the sample '" +
                         shown(index.key(i)) + "' has a file of " + std::to_string(file->size) +
                         " bytes; a field has less than 4 GiB");
      }
      auto& number = numbers[file->extension];
      if (number == kNoExtension) number = extension_number(index.extensions[file->extension]);
      places_.push_back({file->offset, static_cast<uint32_t>(file->size), number});
    }
    if (places_.size() != before + fields_) {
      places_.resize(before);
      ++skipped_;
      continue;
    }
    keys_ += index.key(i);
    key_ends_.push_back(static_cast<uint32_t>(keys_.size() - shard.first_key));
    ++next;
  }
  for (std::size_t i = 0; i < std::min<std::size_t>(index.extensions.size(), 64) && seen_.size() < 64; ++i) {
    if (std::ranges::find(seen_, index.extensions[i]) == seen_.end()) seen_.push_back(index.extensions[i]);
  }
  Shard end;
  end.first = next;
  end.first_key = keys_.size();
  shards_.push_back(std::move(end));
}

void ShardTable::refuse_empty(const std::vector<std::filesystem::path>& paths, const Choice& choice) const {
  const auto where = paths.size() == 1 ? paths[0].string()
                                       : "the " + std::to_string(paths.size()) + " shards from " + paths[0].string();
  const auto fields = joined_as(choice.fields, [](const auto& field) { return shown(field_choices(field)); });
  throw UsageError("no sample of " + where + " has all of the fields " + fields +
                   (seen_.empty() ? "; there are no samples" : "; files there are " + brief_list(seen_)));
}

/// 16 bytes a sample while it runs.
void ShardTable::check_keys() const {
  std::vector<std::pair<uint64_t, int64_t>> order;
  order.reserve(static_cast<std::size_t>(size()));
  for (int64_t i = 0; i < size(); ++i) order.emplace_back(std::hash<std::string_view>()(key(i)), i);
  std::ranges::sort(order, [&](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    const auto order_of_keys = key(a.second).compare(key(b.second));
    return order_of_keys != 0 ? order_of_keys < 0 : a.second < b.second;
  });
  const auto twice = std::ranges::adjacent_find(
      order, [&](const auto& a, const auto& b) { return a.first == b.first && key(a.second) == key(b.second); });
  if (twice == order.end()) return;
  throw UsageError("the shards overlap: " + shards_[shard_of(twice->second)].path.string() + " and " +
                   shards_[shard_of((twice + 1)->second)].path.string() + " both have a sample '" +
                   shown(key(twice->second)) + "'; unique_keys = false reads both");
}

std::size_t ShardTable::shard_of(int64_t sample) const {
  const auto after = std::ranges::upper_bound(shards_, sample, {}, &Shard::first);
  return static_cast<std::size_t>(after - shards_.begin()) - 1;
}

std::string_view ShardTable::key(int64_t sample, std::size_t shard) const {
  const auto at = static_cast<std::size_t>(sample);
  const uint64_t start = sample == shards_[shard].first ? 0 : key_ends_[at - 1];
  return std::string_view(keys_).substr(shards_[shard].first_key + start, key_ends_[at] - start);
}

std::span<const ShardTable::Place> ShardTable::places(int64_t sample) const {
  return std::span(places_).subspan(static_cast<std::size_t>(sample) * fields_, fields_);
}

}  // namespace troupe
