#include "troupe/runtime/data/weights.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/base/number_text.hpp"

#include <cmath>
#include <cstddef>

namespace troupe {

double checked_sum_of_weights(const std::vector<double>& weights, const std::string& what, const std::string& owner) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!std::isfinite(weights[i]) || weights[i] < 0) {
      throw UsageError(what + ": weight " + std::to_string(i) + " = " + double_to_text(weights[i]) +
                       " must be a finite number of at least 0");
    }
    sum += weights[i];
  }
  if (!std::isfinite(sum)) throw UsageError(what + ": the weights' sum overflows; scale them down");
  if (sum <= 0) throw UsageError(owner + " needs at least one weight above 0");
  return sum;
}

}  // namespace troupe
