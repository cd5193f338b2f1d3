#include "troupe/runtime/weights/pth_storages.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/text.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/Allocator.h>
#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

namespace troupe {

PthStorages::PthStorages(const std::vector<ZipMember>& members, const std::string& folder,
                         std::shared_ptr<const void> owner, int64_t most_bytes)
    : owner_(std::move(owner)), bytes_left_(most_bytes) {
  for (const auto& member : members) {
    if (member.name.starts_with(folder)) members_.emplace(member.name.substr(folder.size()), &member);
  }
}

void PthStorages::check(const std::string& key, uint64_t bytes) const {
  const auto found = members_.find(key);
  if (found == members_.end()) throw UsageError("the archive has no storage data/" + shown(key));
  if (found->second->size == bytes) return;
  throw UsageError("storage data/" + shown(key) + " is to have " + std::to_string(bytes) + " bytes, the archive has " +
                   std::to_string(found->second->size) + " of it");
}

const c10::Storage& PthStorages::at(const std::string& key) {
  const auto found = made_.find(key);
  if (found != made_.end()) return found->second;
  return made_.emplace(key, make(*members_.at(key))).first->second;
}

c10::Storage PthStorages::make(const ZipMember& member) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(member.content.data()) % 8 == 0;
  if (owner_ && !member.is_deflated && is_aligned) {
    auto* const begin = const_cast<std::byte*>(member.content.data());
    auto memory = at::InefficientStdFunctionContext::makeDataPtr(
        begin, [owner = owner_](void*) {}, at::kCPU);
    return {c10::Storage::use_byte_size_t(), member.size, std::move(memory), nullptr, false};
  }
  if (member.is_deflated && member.size > static_cast<uint64_t>(std::max<int64_t>(0, bytes_left_))) {
    throw UsageError(member.text() + " takes " + std::to_string(member.size) +
                     " bytes unpacked, more than are allowed (most_bytes)");
  }
  const auto memory = at::empty({static_cast<int64_t>(member.size)}, torch::kByte);
  const std::span bytes(static_cast<std::byte*>(memory.mutable_data_ptr()), member.size);
  if (member.is_deflated) {
    bytes_left_ -= static_cast<int64_t>(member.size);
    inflate_member(member, bytes, member.text());
    check_crc(member, bytes, member.text());
  } else if (!bytes.empty()) {
    std::memcpy(bytes.data(), member.content.data(), bytes.size());
  }
  return memory.storage();
}

void PthStorages::check_bools(const std::string& key) {
  if (are_bools_.contains(key)) return;
  const auto& storage = at(key);
  const std::span bytes(static_cast<const uint8_t*>(storage.data()), storage.nbytes());
  const auto wrong = std::ranges::find_if(bytes, [](uint8_t byte) { return byte > 1; });
  if (wrong != bytes.end()) {
    throw UsageError("element " + std::to_string(wrong - bytes.begin()) + " of the bools in storage data/" +
                     shown(key) + " is " + std::to_string(*wrong) + ", neither 0 nor 1");
  }
  are_bools_.insert(key);
}

}  // namespace troupe
