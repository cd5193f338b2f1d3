// Arrays of numpy's, one a file.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace troupe {

struct ArrayOptions {
  /// Map the file into memory in place of reading it. A write to the tensor then changes its memory and not the file.
  bool mmap = true;
  /// Of read_npz: refuse a compressed array that takes more bytes than this. A small file may unpack to a thousand
  /// times its size.
  int64_t most_bytes = int64_t{1} << 33;
};

/// Reads a file of numpy's format, versions 1.0 to 3.0
/// (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): a tensor of the shape and type of the
/// array, on the CPU. Types are numpy's bool, int8 to int64, uint8 to uint64, float16 to float64, complex64 and
/// complex128; LibTorch has few operators for uint16, uint32 and uint64, so convert these (`to(torch::kInt64)`).
///
/// The tensor is mapped: pages are read when they are used, and it keeps the map alive (mapped_file.hpp says what the
/// file must not do meanwhile). An array in Fortran order is a view with strides, whose `contiguous()` is a copy in C
/// order. A big-endian one, and one whose data lie such that its numbers are not aligned, become a copy.
///
/// Throws UsageError naming the file, what it holds and what to save instead: for Python objects (nothing is unpickled,
/// no code of a file runs), strings, dates, structured and other types that LibTorch lacks, for a header that numpy
/// does not write, for data that end early or go on, and for a bool that is neither 0 nor 1.
torch::Tensor read_npy(const std::filesystem::path& path, const ArrayOptions& options = {});

/// The same of a file's content, in memory of the tensor's own. `source` is what errors call it.
torch::Tensor read_npy(std::span<const std::byte> content, const std::string& source = "the array");

}  // namespace troupe
