#include "troupe/runtime/replica/gradient_homes.hpp"

#include <torch/types.h>

#include <map>
#include <utility>

namespace troupe {

namespace {

constexpr std::size_t home_alignment = 64;

}  // namespace

std::vector<torch::Tensor> side_by_side(const std::vector<torch::Tensor>& tensors) {
  std::vector<std::size_t> offsets;
  std::size_t bytes = 0;
  for (const auto& tensor : tensors) {
    offsets.push_back(bytes);
    bytes += (tensor.nbytes() + home_alignment - 1) / home_alignment * home_alignment;
  }
  const auto all = torch::zeros({static_cast<int64_t>(bytes)}, torch::kUInt8);
  std::vector<torch::Tensor> parts;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    c10::DataPtr data(static_cast<char*>(all.data_ptr()) + offsets[i], new torch::Tensor(all),
                      [](void* keeper) { delete static_cast<torch::Tensor*>(keeper); }, c10::kCPU);
    c10::Storage storage(c10::Storage::use_byte_size_t(), tensors[i].nbytes(), std::move(data), /*allocator=*/nullptr,
                         /*resizable=*/false);
    auto part = at::detail::make_tensor<c10::TensorImpl>(
        std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensors[i].dtype());
    part.unsafeGetTensorImpl()->set_sizes_and_strides(tensors[i].sizes(), tensors[i].strides());
    parts.push_back(std::move(part));
  }
  return parts;
}

void GradientHomes::add(const std::vector<torch::Tensor>& parameters) {
  std::map<torch::ScalarType, std::vector<torch::Tensor>> by_type;
  for (const auto& parameter : parameters) {
    const bool is_new = !homes_.contains(parameter.unsafeGetTensorImpl());
    if (is_new && parameter.is_non_overlapping_and_dense()) by_type[parameter.scalar_type()].push_back(parameter);
  }
  for (const auto& [type, same] : by_type) {
    auto homes = side_by_side(same);
    for (std::size_t i = 0; i < same.size(); ++i) homes_[same[i].unsafeGetTensorImpl()] = std::move(homes[i]);
  }
}

torch::Tensor GradientHomes::of(const torch::Tensor& parameter) const {
  const auto found = homes_.find(parameter.unsafeGetTensorImpl());
  return found == homes_.end() ? torch::Tensor() : found->second;
}

}  // namespace troupe
