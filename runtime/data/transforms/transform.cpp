#include "troupe/runtime/data/transforms/transform.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/runtime/data/transforms/checks.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"

#include <string>
#include <utility>

namespace troupe::transforms {

Compose::Compose(std::vector<std::shared_ptr<const Transform>> steps) : steps_(std::move(steps)) {
  if (steps_.empty()) throw UsageError("Compose has no steps; at least one transform was expected");
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    if (!steps_[i]) throw UsageError("step " + std::to_string(i) + " of Compose is null; a transform was expected");
  }
}

torch::Tensor Compose::operator()(const torch::Tensor& image) const {
  torch::Tensor result = image;
  for (const auto& step : steps_) result = (*step)(result);
  return result;
}

RandomApply::RandomApply(Compose steps, double p) : steps_(std::move(steps)), p_(p) {
  check_probability(p, "RandomApply");
}

torch::Tensor RandomApply::operator()(const torch::Tensor& image) const {
  check_image(image, "RandomApply");
  return draw() ? steps_(image) : image;
}

bool RandomApply::draw() const {
  return draw_chance(p_);
}

}  // namespace troupe::transforms
