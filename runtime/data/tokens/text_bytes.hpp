// Text as bytes, for language models without a tokenizer.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace troupe {

/// The bytes of files, gzipped or not, one file after the other: uint8 [N]. A folder stands for the files in it in the
/// order of their names, without links, hidden files and further folders. Throws UsageError naming the path that cannot
/// be read or holds no file, for no text at all, and for more than `most_bytes` of it.
torch::Tensor read_bytes(const std::vector<std::filesystem::path>& paths, int64_t most_bytes = int64_t{1} << 33);

}  // namespace troupe
