#include "troupe/modules/metrics/mean_error.hpp"

#include "troupe/base/failure.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

MeanError::MeanError(const char* name, const char* sum_name, int64_t num_outputs)
    : name_(name), num_outputs_(num_outputs) {
  if (num_outputs < 1) throw UsageError(c10::str(name, ": num_outputs = ", num_outputs, "; use at least 1"));
  const auto shape = num_outputs == 1 ? std::vector<int64_t>{} : std::vector<int64_t>{num_outputs};
  sum_ = add_state(sum_name, torch::zeros(shape, torch::kFloat64), Combine::sum);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

void MeanError::add(const torch::Tensor& preds, const torch::Tensor& target) {
  const auto shapes = [&] { return c10::str("preds is of shape ", preds.sizes(), " and target of ", target.sizes()); };
  if (preds.sizes() != target.sizes()) throw UsageError(c10::str(name_, ": ", shapes(), "; give both one shape"));
  const bool has_outputs = num_outputs_ > 1;
  if (has_outputs && (preds.dim() != 2 || preds.size(1) != num_outputs_)) {
    throw UsageError(
        c10::str(name_, ": ", shapes(), "; with num_outputs = ", num_outputs_, " it must be (N, ", num_outputs_, ")"));
  }
  const auto errors = error(preds.to(torch::kFloat64) - target.to(torch::kFloat64));
  at(sum_) += has_outputs ? errors.sum(0) : errors.sum();
  at(total_) += has_outputs ? preds.size(0) : preds.numel();
}

torch::Tensor MeanError::result() const {
  return at(sum_) / at(total_);
}

MeanSquaredError::MeanSquaredError(MeanSquaredErrorOptions options)
    : MeanError("MeanSquaredError", "sum_squared_error", options.num_outputs), squared_(options.squared) {}

torch::Tensor MeanSquaredError::error(const torch::Tensor& difference) const {
  return difference.square();
}

torch::Tensor MeanSquaredError::result() const {
  return squared_ ? MeanError::result() : MeanError::result().sqrt();
}

MeanAbsoluteError::MeanAbsoluteError(MeanAbsoluteErrorOptions options)
    : MeanError("MeanAbsoluteError", "sum_abs_error", options.num_outputs) {}

torch::Tensor MeanAbsoluteError::error(const torch::Tensor& difference) const {
  return difference.abs();
}

}  // namespace troupe::metrics
