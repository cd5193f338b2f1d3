// The content of a shard, whether or not the file is compressed.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/files/file_reader.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace troupe {

/// Bytes of an archive by their offset in the uncompressed content. Belongs to one thread. Errors of `read` are
/// UsageError and name the file and an offset.
class ShardBytes {
 public:
  explicit ShardBytes(std::shared_ptr<const FileReader> file) : file_(std::move(file)) {}
  virtual ~ShardBytes() = default;
  ShardBytes(const ShardBytes&) = delete;
  ShardBytes& operator=(const ShardBytes&) = delete;

  /// Up to `count` bytes from `offset` on, and how many they are; fewer only at the end.
  virtual std::size_t read(uint64_t offset, void* to, std::size_t count) = 0;
  /// Bytes of the content, as far as they are known without reading it: of a compressed one, once its end was seen.
  virtual std::optional<uint64_t> size() const = 0;

  const FileReader& file() const { return *file_; }
  /// `offset` is one of the uncompressed content.
  [[noreturn]] void refuse(uint64_t offset, const std::string& why) const {
    throw UsageError(file_->path().string() + ": at offset " + std::to_string(offset) + " " + why);
  }

 private:
  std::shared_ptr<const FileReader> file_;
};

/// A file as it is.
class PlainBytes : public ShardBytes {
 public:
  using ShardBytes::ShardBytes;
  std::size_t read(uint64_t offset, void* to, std::size_t count) override;
  std::optional<uint64_t> size() const override { return static_cast<uint64_t>(file().size()); }
};

}  // namespace troupe
