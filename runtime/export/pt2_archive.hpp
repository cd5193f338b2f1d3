// The archive of PyTorch's exported programs (.pt2): a zip file whose names and values
// torch/csrc/export/pt2_archive_constants.h lists.
#pragma once

#include "troupe/runtime/export/exported_program.hpp"

#include <filesystem>

namespace troupe {

/// Writes `program` under the name "model", whole or not at all: the weights as the bytes of their storages, one record
/// for each, aligned to 64 bytes, in the byte order of this machine. Of a storage only what the weights cover is
/// written. Throws UsageError for weights that are not dense; FileError for what the file system refuses.
void write_pt2(const std::filesystem::path& path, const ExportedProgram& program);

}  // namespace troupe
