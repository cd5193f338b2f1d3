// Weights that a user gives.
#pragma once

#include <string>
#include <vector>

namespace troupe {

/// The weights' sum, finite and above 0. Throws UsageError, which names the weight, for a negative or non-finite one,
/// for a sum that overflows, and for weights that are all zero. `what` is what errors are about ("mixture: weight 2"),
/// `owner` what needs the weights ("a mixture needs").
double checked_sum_of_weights(const std::vector<double>& weights, const std::string& what, const std::string& owner);

}  // namespace troupe
