#include "troupe/modules/layers/tie_weights.hpp"

#include "troupe/base/failure.hpp"

#include <c10/util/StringUtil.h>

namespace troupe {

namespace {

// The registered parameters, which only a derived class may name.
struct Access : torch::nn::Module {
  static auto& parameters_of(torch::nn::Module& module) { return module.*(&Access::parameters_); }
};

}  // namespace

void tie_weights(torch::nn::Module& layer, torch::Tensor& parameter, const torch::Tensor& other) {
  if (parameter.sizes() != other.sizes()) {
    throw UsageError(
        c10::str("tie_weights: the parameter is ", parameter.sizes(), " and the other one ", other.sizes()));
  }
  for (auto& item : Access::parameters_of(layer)) {
    if (!item.value().is_same(parameter)) continue;
    item.value() = other;
    parameter = other;
    return;
  }
  throw UsageError("tie_weights: the parameter is none of the layer's own");
}

}  // namespace troupe
