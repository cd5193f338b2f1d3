#include "troupe/runtime/precision/convert.hpp"

#include <torch/utils.h>

namespace troupe {

void set_floating_type(torch::nn::Module& module, torch::ScalarType type) {
  const torch::NoGradGuard no_gradients;
  const auto convert = [&](torch::Tensor tensor) {
    if (tensor.defined() && tensor.is_floating_point() && tensor.scalar_type() != type) {
      tensor.set_data(tensor.to(type));
    }
  };
  for (auto& parameter : module.parameters()) convert(parameter);
  for (auto& buffer : module.buffers()) convert(buffer);
}

Batch with_floating_type(Batch batch, torch::ScalarType type) {
  for (auto& tensor : batch.tensors()) {
    if (tensor.defined() && tensor.is_floating_point()) tensor = tensor.to(type);
  }
  for (auto& part : batch.parts()) part = with_floating_type(std::move(part), type);
  return batch;
}

}  // namespace troupe
