#include "troupe/runtime/data/arrays/npy.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/arrays/npy_header.hpp"
#include "troupe/runtime/data/files/mapped_file.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace troupe {

namespace {

/// Copies numbers of `size` bytes and turns each around.
void copy_swapped(const std::byte* from, std::byte* to, std::size_t bytes, std::size_t size) {
  for (std::size_t at = 0; at < bytes; at += size) std::reverse_copy(from + at, from + at + size, to + at);
}

/// Any other value of a bool is undefined behaviour wherever it is used.
void check_npy_bools(std::span<const std::byte> data, const std::string& source) {
  const auto wrong = std::ranges::find_if(data, [](std::byte byte) { return byte > std::byte{1}; });
  if (wrong == data.end()) return;
  throw UsageError(source + ": element " + std::to_string(wrong - data.begin()) + " of its bools is " +
                   std::to_string(std::to_integer<int>(*wrong)) + ", neither 0 nor 1");
}

torch::Tensor npy_copy(const NpyHeader& header, std::span<const std::byte> data) {
  const auto options = torch::TensorOptions(header.dtype);
  const auto size = c10::elementSize(header.dtype);
  const auto memory = at::empty({static_cast<int64_t>(data.size() / size)}, options);
  auto* const to = static_cast<std::byte*>(memory.mutable_data_ptr());
  if (header.is_swapped) {
    copy_swapped(data.data(), to, data.size(), c10::isComplexType(header.dtype) ? size / 2 : size);
  } else if (!data.empty()) {
    std::memcpy(to, data.data(), data.size());
  }
  return memory.as_strided(header.shape, header.strides());
}

}  // namespace

torch::Tensor npy_tensor(std::span<const std::byte> content, const std::shared_ptr<const void>& owner,
                         const std::string& source) {
  const auto header = parse_npy_header(content, source);
  const auto data = content.subspan(header.data_offset, header.data_bytes);
  if (header.dtype == torch::kBool) check_npy_bools(data, source);
  // Compilers take numbers to be aligned: a loop over others may fail.
  const auto alignment = c10::elementSize(c10::toRealValueType(header.dtype));
  const bool is_aligned = reinterpret_cast<uintptr_t>(data.data()) % alignment == 0;
  if (!owner || header.is_swapped || !is_aligned || data.empty()) return npy_copy(header, data);
  return at::from_blob(
      const_cast<std::byte*>(data.data()), header.shape, header.strides(), [owner](void*) {}, header.dtype);
}

torch::Tensor read_npy(const std::filesystem::path& path, const ArrayOptions& options) {
  const auto file = std::make_shared<const MappedFile>(
      path, MapOptions{.access = options.mmap ? AccessPattern::normal : AccessPattern::sequential,
                       .copy_on_write = options.mmap});
  return npy_tensor(file->bytes(), options.mmap ? file : nullptr, path.string());
}

torch::Tensor read_npy(std::span<const std::byte> content, const std::string& source) {
  return npy_tensor(content, nullptr, source);
}

}  // namespace troupe
