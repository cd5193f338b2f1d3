// The safetensors format (https://github.com/huggingface/safetensors): named tensors behind a JSON header. Nothing in
// such a file is ever executed, which is why checkpoints use it.
#pragma once

#include "troupe/base/failure.hpp"
#include "troupe/runtime/checkpoint/file_system.hpp"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace troupe {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;
/// `__metadata__` of the header.
using SafetensorsMetadata = std::map<std::string, std::string, std::less<>>;

/// The longest header that is read or written, as in the reference implementation.
inline constexpr uint64_t max_safetensors_header = 100'000'000;

/// A tensor as the header describes it. `begin` and `end` are positions in the file.
struct SafetensorsEntry {
  std::string name;
  torch::ScalarType dtype = torch::ScalarType::Undefined;  ///< Undefined: one that LibTorch cannot hold, or unknown
  std::string dtype_name;                                  ///< as it stands in the header
  /// The tensor's in LibTorch, which holds two F4 in an element: there the header's last size is twice as large.
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

/// "F32", "I64", ...; empty for a type that the format, or this library, does not know.
std::string_view safetensors_dtype(torch::ScalarType dtype);
/// "F64 F32 ...": all that it knows.
std::string all_safetensors_dtypes();
/// Of an entry whose dtype is Undefined: "has the dtype 'F6_E2M3', which LibTorch does not have; ...".
std::string why_unreadable(const SafetensorsEntry& entry);

/// Throws UsageError with the tensor's name for a type or layout that the format does not have.
void check_storable(const std::string& name, const torch::Tensor& tensor);
/// A tensor as its bytes lie in the file: dense, on the CPU. Shares memory where it is so already. Throws as
/// check_storable.
torch::Tensor as_stored(const std::string& name, const torch::Tensor& tensor);

/// Writes a whole file. Larger elements come first, so that each tensor is aligned to its element without holes, which
/// the format forbids; the data begin at a multiple of 8. The header keeps the order given. Throws UsageError for
/// tensors that cannot be stored, names given twice and too much metadata (before anything is written), FileError for
/// what the file reports.
void write_safetensors(OutputFile& file, std::span<const std::pair<std::string, torch::Tensor>> tensors,
                       const SafetensorsMetadata& metadata);

class MappedFile;

/// How tensors come out of a file.
enum class TensorMemory {
  copied,  ///< read into memory of their own
  /// The file's pages, mapped: nothing is copied, the system reads a page when it is first used. Writing to a tensor
  /// leaves the file as it is. The map lives as long as a tensor of it. The file may be replaced meanwhile (rename),
  /// but must not become shorter: the system ends a process that uses pages beyond the new end (SIGBUS). Tensors that
  /// the file does not align to their elements are copied.
  mapped,
};

/// A file opened for reading whose header was checked whole: sizes fit together and fit the file, the data have neither
/// holes nor overlaps. Memory is asked for only after that. Of a tensor of an unknown type it is known where it lies.
/// Any thread may call. Everything throws CheckpointError.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path, TensorMemory memory = TensorMemory::copied);

  /// In the order of the header.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const SafetensorsMetadata& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_.path(); }

  /// The tensor. Throws for a type that LibTorch does not have; the others can be read.
  torch::Tensor read(const SafetensorsEntry& entry) const;
  /// Fills `into` with the bytes from position `offset` of the file.
  void read_bytes(uint64_t offset, std::span<std::byte> into) const;

 private:
  torch::Tensor mapped(const SafetensorsEntry& entry) const;

  InputFile file_;
  std::shared_ptr<const MappedFile> map_;
  std::vector<SafetensorsEntry> entries_;
  SafetensorsMetadata metadata_;
};

}  // namespace troupe
