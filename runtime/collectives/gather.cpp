#include "troupe/runtime/collectives/gather.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/collectives/collective_error.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <sstream>

namespace troupe {
namespace {

// What a rank says of its tensor: type, number of dimensions, sizes.
constexpr int64_t header_size = 16;
constexpr int64_t most_dimensions = header_size - 2;

// One row a rank, on the CPU.
at::Tensor gather_headers(c10d::Backend& backend, const at::Tensor& tensor) {
  auto ours = at::zeros({header_size}, at::kLong);
  auto* const values = ours.mutable_data_ptr<int64_t>();
  values[0] = static_cast<int64_t>(tensor.scalar_type());
  values[1] = tensor.dim();
  std::ranges::copy(tensor.sizes(), values + 2);
  ours = ours.to(tensor.device());
  auto all = at::empty({backend.getSize(), header_size}, ours.options());
  backend._allgather_base(all, ours)->wait();
  return all.to(at::kCPU);
}

void check_types(const at::Tensor& headers) {
  const auto types = headers.accessor<int64_t, 2>();
  for (int64_t rank = 1; rank < headers.size(0); ++rank) {
    if (types[rank][0] == types[0][0]) continue;
    std::ostringstream text;
    text << "all-gather: rank 0 gives a tensor of type " << static_cast<at::ScalarType>(types[0][0]) << ", rank "
         << rank << " of type " << static_cast<at::ScalarType>(types[rank][0]);
    throw CollectiveError(text.str());
  }
}

}  // namespace

std::vector<at::Tensor> all_gather_uneven(c10d::Backend& backend, const at::Tensor& tensor) {
  if (tensor.dim() > most_dimensions) {
    throw UsageError("all-gather: a tensor has " + std::to_string(tensor.dim()) + " dimensions; 14 can be gathered");
  }
  const auto headers = gather_headers(backend, tensor);
  check_types(headers);
  const auto values = headers.accessor<int64_t, 2>();
  std::vector<std::vector<int64_t>> shapes;
  int64_t elements = 0;
  for (int64_t rank = 0; rank < headers.size(0); ++rank) {
    const auto* const sizes = &values[rank][2];
    shapes.emplace_back(sizes, sizes + values[rank][1]);
    elements += c10::multiply_integers(shapes.back());
  }
  const auto flat = at::empty({elements}, tensor.options().requires_grad(false));
  std::vector<std::vector<at::Tensor>> outputs(1);
  int64_t offset = 0;
  for (const auto& shape : shapes) {
    const int64_t count = c10::multiply_integers(shape);
    outputs[0].push_back(flat.narrow(0, offset, count).view(shape));
    offset += count;
  }
  std::vector<at::Tensor> inputs = {tensor.detach()};
  backend.allgather(outputs, inputs)->wait();
  return std::move(outputs[0]);
}

std::vector<std::string> all_gather_bytes(c10d::Backend& backend, const std::string& bytes) {
  // The memory is only read.
  const auto ours = at::from_blob(const_cast<char*>(bytes.data()), {static_cast<int64_t>(bytes.size())}, at::kByte);
  std::vector<std::string> all;
  for (const auto& tensor : all_gather_uneven(backend, ours)) {
    all.emplace_back(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  return all;
}

}  // namespace troupe
