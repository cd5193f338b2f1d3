#include "troupe/modules/metrics/perplexity.hpp"

#include "troupe/base/failure.hpp"

#include <c10/util/StringUtil.h>
#include <torch/types.h>
#include <torch/utils.h>

#include <limits>

namespace troupe::metrics {

namespace {

constexpr int64_t none = std::numeric_limits<int64_t>::max();  // no invalid target

}  // namespace

Perplexity::Perplexity(PerplexityOptions options) : ignore_index_(options.ignore_index) {
  total_log_probs_ = add_state("total_log_probs", torch::zeros({}, torch::kFloat64), Combine::sum);
  count_ = add_state("count", torch::zeros({}, torch::kLong), Combine::sum);
  worst_target_ = add_state("worst_target", torch::full({}, none, torch::kLong), Combine::min);
}

void Perplexity::refuse_target(int64_t target) const {
  const auto ignored = ignore_index_ ? c10::str(", or ignore_index = ", *ignore_index_) : "";
  throw UsageError(
      c10::str("Perplexity: target holds ", target, "; targets are 0 to the size of the vocabulary - 1", ignored));
}

void Perplexity::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (preds.dim() != 3 || target.dim() != 2 || preds.sizes().slice(0, 2) != target.sizes()) {
    throw UsageError(c10::str("Perplexity: preds is of shape ", preds.sizes(), " and target of ", target.sizes(),
                              "; give logits (batch, length, vocabulary) and targets (batch, length)"));
  }
  if (!preds.is_floating_point() || target.scalar_type() != torch::kLong) {
    throw UsageError(c10::str("Perplexity: preds holds ", preds.scalar_type(), " and target ", target.scalar_type(),
                              "; a floating type and Long are needed"));
  }
  if (target.numel() == 0) return;
  const int64_t vocabulary = preds.size(2);
  const auto counted = ignore_index_ ? target != *ignore_index_ : torch::ones_like(target, torch::kBool);
  const auto invalid = ((target < 0) | (target >= vocabulary)) & counted;
  const auto worst = torch::where(invalid, target, torch::full_like(target, none)).min();
  if (!worst.is_cpu()) {
    at(worst_target_) = torch::minimum(at(worst_target_), worst);
  } else if (const auto label = worst.item<int64_t>(); label != none) {
    refuse_target(label);
  }
  const auto type = preds.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto log_probs = torch::log_softmax(preds.to(type), 2);
  const auto own = log_probs.gather(2, target.clamp(0, vocabulary - 1).unsqueeze(2)).squeeze(2).to(torch::kFloat64);
  at(total_log_probs_) -= torch::where(counted, own, torch::zeros_like(own)).sum();
  at(count_) += counted.sum();
}

void Perplexity::verify() const {
  if (device().is_cpu()) return;
  if (const auto worst = at(worst_target_).item<int64_t>(); worst != none) refuse_target(worst);
}

torch::Tensor Perplexity::result() const {
  return torch::exp(at(total_log_probs_) / at(count_));
}

}  // namespace troupe::metrics
