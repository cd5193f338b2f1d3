// Checks of options and shapes that metrics share.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

namespace troupe::metrics {

/// Throws UsageError if `value` is below `lowest`; `metric` is the name for the message.
void check_at_least(const char* metric, const char* option, int64_t value, int64_t lowest);
/// Throws UsageError unless both are of one shape.
void check_one_shape(const char* metric, const torch::Tensor& preds, const torch::Tensor& target);
/// Throws UsageError unless both are (N), or (N, num_outputs) where that is above 1.
void check_outputs(const char* metric, const torch::Tensor& preds, const torch::Tensor& target, int64_t num_outputs);
/// "preds is of shape [2, 3] and target of [2]".
std::string shapes_text(const torch::Tensor& preds, const torch::Tensor& target);

}  // namespace troupe::metrics
