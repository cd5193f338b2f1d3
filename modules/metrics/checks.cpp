#include "troupe/modules/metrics/checks.hpp"

#include "troupe/base/failure.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>

namespace troupe::metrics {

void check_at_least(const char* metric, const char* option, int64_t value, int64_t lowest) {
  if (value < lowest) throw UsageError(c10::str(metric, ": ", option, " = ", value, "; use at least ", lowest));
}

std::string shapes_text(const torch::Tensor& preds, const torch::Tensor& target) {
  return c10::str("preds is of shape ", preds.sizes(), " and target of ", target.sizes());
}

void check_one_shape(const char* metric, const torch::Tensor& preds, const torch::Tensor& target) {
  if (preds.sizes() == target.sizes()) return;
  throw UsageError(c10::str(metric, ": ", shapes_text(preds, target), "; give both one shape"));
}

void check_outputs(const char* metric, const torch::Tensor& preds, const torch::Tensor& target, int64_t num_outputs) {
  check_one_shape(metric, preds, target);
  const bool fits = num_outputs == 1 ? preds.dim() == 1 : preds.dim() == 2 && preds.size(1) == num_outputs;
  if (fits) return;
  throw UsageError(c10::str(metric, ": ", shapes_text(preds, target), "; with num_outputs = ", num_outputs,
                            " it must be (N", num_outputs == 1 ? "" : c10::str(", ", num_outputs), ")"));
}

}  // namespace troupe::metrics
