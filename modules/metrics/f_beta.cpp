#include "troupe/modules/metrics/f_beta.hpp"

#include "troupe/base/number_text.hpp"

namespace troupe::metrics {

FBetaScore::FBetaScore(const char* name, FBetaScoreOptions options)
    : StatScores(name, {{options.task, options.num_classes, options.num_labels, options.ignore_index},
                        options.threshold,
                        options.average,
                        options.top_k,
                        options.zero_division}),
      beta_(options.beta) {
  if (!(beta_ > 0) || !std::isfinite(beta_)) refuse("beta = " + double_to_text(beta_) + "; use a number above 0");
}

torch::Tensor FBetaScore::score(const Counts& counts) const {
  const double squared = beta_ * beta_;
  const auto hits = (1 + squared) * counts.tp;
  return safe_divide(hits, hits + squared * counts.fn + counts.fp, static_cast<double>(options().zero_division));
}

F1Score::F1Score(PrecisionRecallOptions options)
    : FBetaScore("F1Score", {options.task, 1.0, options.threshold, options.num_classes, options.num_labels,
                             options.average, options.top_k, options.ignore_index, options.zero_division}) {}

}  // namespace troupe::metrics
