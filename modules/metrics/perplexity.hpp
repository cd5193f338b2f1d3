// How well a language model predicts its text.
#pragma once

#include "troupe/modules/metrics/metric.hpp"

#include <optional>

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/text/perplexity.html
struct PerplexityOptions {
  std::optional<int64_t> ignore_index = std::nullopt;  ///< targets that do not count, such as padding
};

/// exp of the mean negative log-likelihood of the targets: preds are logits (batch, length, vocabulary) of a floating
/// type, target int64 (batch, length). NaN if every target is ignored. Targets are checked as in
/// ClassificationMetric: at once on the CPU, by compute() on other devices.
class Perplexity : public TargetMetric {
 public:
  explicit Perplexity(PerplexityOptions options = {});

 protected:
  void add(const torch::Tensor& preds, const torch::Tensor& target) override;
  torch::Tensor result() const override;
  void verify() const override;

 private:
  [[noreturn]] void refuse_target(int64_t target) const;

  std::optional<int64_t> ignore_index_;
  State total_log_probs_, count_, worst_target_;
};

}  // namespace troupe::metrics
