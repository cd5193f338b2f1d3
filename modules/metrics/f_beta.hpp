// The harmonic mean of precision and recall, with recall weighted beta times as much.
#pragma once

#include "troupe/modules/metrics/precision_recall.hpp"

namespace troupe::metrics {

/// https://lightning.ai/docs/torchmetrics/stable/classification/fbeta_score.html
struct FBetaScoreOptions {
  Required<Task> task;  ///< as AccuracyOptions
  double beta = 1.0;    ///< above 0
  double threshold = 0.5;
  std::optional<int64_t> num_classes = std::nullopt;
  std::optional<int64_t> num_labels = std::nullopt;
  Average average = Average::micro;
  int64_t top_k = 1;
  std::optional<int64_t> ignore_index = std::nullopt;
  int64_t zero_division = 0;  ///< the value of a class that is nowhere: 0 or 1
};

/// (1 + beta^2) tp / ((1 + beta^2) tp + beta^2 fn + fp). Input and value as Accuracy.
class FBetaScore : public StatScores {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit FBetaScore(FBetaScoreOptions options) : FBetaScore("FBetaScore", options) {}

 protected:
  FBetaScore(const char* name, FBetaScoreOptions options);
  torch::Tensor score(const Counts& counts) const override;
  bool leaves_out_unseen() const override { return false; }

 private:
  double beta_;
};

/// FBetaScore with beta = 1.
class F1Score : public FBetaScore {
 public:
  /// Throws UsageError for a value that an option cannot have.
  explicit F1Score(PrecisionRecallOptions options);
};

}  // namespace troupe::metrics
