// Writes files that torch.load reads.
#pragma once

#include "troupe/runtime/checkpoint/file_system.hpp"
#include "troupe/runtime/weights/pth_value.hpp"

#include <torch/types.h>

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace troupe {

struct PthWriteOptions {
  /// F64, F32, F16 and BF16 are stored in this type, one of them; everything else stays as it is.
  std::optional<torch::ScalarType> dtype = std::nullopt;
};

/// Writes what torch.save writes (https://docs.pytorch.org/docs/stable/notes/serialization.html), for torch.load with
/// weights_only=True and mmap=True, and for read_pth:
///
///     write_pth(named_model_tensors(*model), "weights.pth");   // model.load_state_dict(torch.load("weights.pth"))
///     write_pth(PthValue::dictionary_of({{"state_dict", PthValue::state_dict_of(weights)}, {"epoch", 3}}), path);
///
/// As torch.save does: tensors that share a storage share it in the file, of which it is stored whole, also where only
/// a view of it is written; strides are kept. They are stored without gradient, on the CPU. Unlike there, one storage
/// may be seen by tensors of several types. Everything is stored, not deflated, and aligned to 64 bytes.
///
/// The file is written atomically (write_atomically), and each storage is converted or copied from its device only
/// while it is written. Any thread may call; the tensors must not change meanwhile. Throws UsageError for sparse,
/// quantized, nested and meta tensors, for types that PyTorch does not save (int1 to int7, uint1 to uint7) and for what
/// write_pickle refuses, before anything is written; FileError for what the file system refuses.
void write_pth(const PthValue& value, const std::filesystem::path& path, const PthWriteOptions& options = {},
               FileSystem& files = real_file_system());
/// The weights of a module: state_dict_of `tensors`.
void write_pth(std::span<const std::pair<std::string, torch::Tensor>> tensors, const std::filesystem::path& path,
               const PthWriteOptions& options = {}, FileSystem& files = real_file_system());

/// The same file as bytes in memory, for archives that hold such files.
std::string pth_bytes(const PthValue& value, const PthWriteOptions& options = {});

}  // namespace troupe
