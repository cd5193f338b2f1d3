// Gathering what differs in size between ranks.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <string>
#include <vector>

namespace troupe {

/// The tensors of all ranks, in their order, of any shapes (0 elements included) and of one type, which otherwise ends
/// in a CollectiveError on all ranks. Shapes are exchanged first; then every element travels once. The tensor is on the
/// backend's device; the results are views of one memory. Up to 14 dimensions. Waits.
std::vector<at::Tensor> all_gather_uneven(c10d::Backend& backend, const at::Tensor& tensor);

/// A small message of each rank, for agreements: a backend of CPU tensors. Waits.
std::vector<std::string> all_gather_bytes(c10d::Backend& backend, const std::string& bytes);

}  // namespace troupe
