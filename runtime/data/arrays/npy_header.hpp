// The header of a .npy file.
#pragma once

#include <torch/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace troupe {

/// What comes before the data of an array, checked: the data end where the content ends.
struct NpyHeader {
  torch::ScalarType dtype = torch::ScalarType::Undefined;
  bool is_swapped = false;  ///< its numbers have the other byte order than this machine
  bool fortran_order = false;
  std::vector<int64_t> shape;
  std::size_t data_offset = 0;
  std::size_t data_bytes = 0;

  /// Of a tensor over the data, in elements.
  std::vector<int64_t> strides() const;
};

/// Reads the header with a parser for what numpy writes there, a Python dictionary of three entries; nothing is
/// evaluated. Throws UsageError as read_npy says.
NpyHeader parse_npy_header(std::span<const std::byte> content, const std::string& source);

/// The array in `content`: over that memory, which `owner` keeps alive, if it is there and numbers are aligned and in
/// this machine's byte order; else a copy.
torch::Tensor npy_tensor(std::span<const std::byte> content, const std::shared_ptr<const void>& owner,
                         const std::string& source);

}  // namespace troupe
