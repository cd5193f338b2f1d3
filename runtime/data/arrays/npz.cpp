#include "troupe/runtime/data/arrays/npz.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"
#include "troupe/runtime/data/arrays/npy_header.hpp"
#include "troupe/runtime/data/files/mapped_file.hpp"
#include "troupe/runtime/data/files/zip_archive.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

namespace troupe {

namespace {

constexpr std::string_view kNpyEnding = ".npy";

/// A deflated array: the tensor is a view of what was unpacked, where numpy has aligned the numbers.
torch::Tensor inflated_array(const ZipMember& member, const std::string& source) {
  const auto memory =
      std::make_shared<const torch::Tensor>(at::empty({static_cast<int64_t>(member.size)}, torch::kByte));
  const std::span bytes(static_cast<std::byte*>(memory->mutable_data_ptr()), member.size);
  inflate_member(member, bytes, source);
  check_crc(member, bytes, source);
  return npy_tensor(bytes, memory, source);
}

}  // namespace

NpzFile::NpzFile(const std::filesystem::path& path, const ArrayOptions& options)
    : file_(std::make_shared<const MappedFile>(path, MapOptions{.copy_on_write = true})), options_(options) {
  auto members = zip_members(file_->bytes(), path.string());
  std::erase_if(members, [](const ZipMember& member) { return !member.name.ends_with(kNpyEnding); });
  for (const auto& member : members) names_.push_back(member.name.substr(0, member.name.size() - kNpyEnding.size()));
  members_ = std::make_shared<const std::vector<ZipMember>>(std::move(members));
}

bool NpzFile::contains(std::string_view name) const {
  return std::ranges::find(names_, name) != names_.end();
}

torch::Tensor NpzFile::operator[](std::string_view name) const {
  const auto path = file_->path().string();
  const auto found = std::ranges::find(names_, name);
  if (found == names_.end()) {
    throw UsageError(path + " has no array '" + shown(name) + "'" +
                     (names_.empty()
                          ? ", nor any other"
                          : ", did you mean '" + shown(nearest(name, names_)) + "'? It has " + brief_list([&] {
                              std::vector<std::string> texts;
                              for (const auto& each : names_) texts.push_back(shown(each));
                              return texts;
                            }())));
  }
  const auto& member = (*members_)[static_cast<std::size_t>(found - names_.begin())];
  const auto source = path + ": " + member.text();
  if (member.is_deflated) {
    if (member.size > static_cast<uint64_t>(std::max<int64_t>(0, options_.most_bytes))) {
      throw UsageError(source + " takes " + std::to_string(member.size) + " bytes unpacked, more than the " +
                       std::to_string(options_.most_bytes) + " that are allowed (most_bytes)");
    }
    return inflated_array(member, source);
  }
  auto tensor = npy_tensor(member.content, options_.mmap ? file_ : nullptr, source);
  const auto* const begin = member.content.data();
  const auto* const at = static_cast<const std::byte*>(tensor.const_data_ptr());
  const bool is_mapped = at >= begin && at < begin + member.content.size();
  if (!is_mapped) check_crc(member, member.content, source);
  return tensor;
}

NpzFile read_npz(const std::filesystem::path& path, const ArrayOptions& options) {
  return {path, options};
}

}  // namespace troupe
