#include "troupe/modules/optim/clip_gradients.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/modules/optim/drop_gradients.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe {

torch::Tensor clip_gradients(torch::optim::Optimizer& optimizer, std::optional<double> bound,
                             GradientClipAlgorithm algorithm, torch::Device device,
                             const std::function<torch::Tensor(torch::Tensor norm)>& whole_norm) {
  if (!(bound.value_or(0) >= 0)) {
    throw UsageError("clip_gradients: gradient_clip_val = " + double_to_text(*bound) +
                     " is not valid; use at least 0, or none");
  }
  if (bound.value_or(0) == 0) return {};
  const torch::NoGradGuard no_grad;
  const auto gradients = gradients_of(optimizer);
  if (algorithm == GradientClipAlgorithm::value) {
    if (gradients.empty()) return {};
    at::_foreach_clamp_min_(gradients, -*bound);
    at::_foreach_clamp_max_(gradients, *bound);
    return {};
  }
  // Python divides a number by a tensor this way.
  auto norm = gradients.empty() ? torch::zeros({}, torch::TensorOptions(device))
                                : torch::linalg_vector_norm(torch::stack(at::_foreach_norm(gradients, 2)), 2);
  if (whole_norm) norm = whole_norm(norm);
  if (!gradients.empty()) {
    at::_foreach_mul_(gradients, torch::clamp_max((norm + 1e-6).reciprocal() * *bound, 1.0));
  }
  return norm;
}

}  // namespace troupe
