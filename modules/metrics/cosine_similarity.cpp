#include "troupe/modules/metrics/cosine_similarity.hpp"

#include "troupe/base/failure.hpp"
#include "troupe/modules/metrics/checks.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

CosineSimilarity::CosineSimilarity(CosineSimilarityOptions options) : reduction_(options.reduction) {
  similarity_ = reduction_ == Reduction::none
                    ? add_list("similarity", torch::kFloat64)
                    : add_state("similarity", torch::zeros({}, torch::kFloat64), Combine::sum);
  total_ = add_state("total", torch::zeros({}, torch::kLong), Combine::sum);
}

void CosineSimilarity::add(const torch::Tensor& preds, const torch::Tensor& target) {
  if (preds.sizes() != target.sizes() || preds.dim() != 2) {
    throw UsageError("CosineSimilarity: " + shapes_text(preds, target) + "; give both one shape, (N, d)");
  }
  const auto a = preds.to(torch::kFloat64), b = target.to(torch::kFloat64);
  const auto similarity = (a * b).sum(1) / (torch::linalg_vector_norm(a, 2, 1) * torch::linalg_vector_norm(b, 2, 1));
  if (reduction_ == Reduction::none) {
    append(similarity_, similarity);
  } else {
    at(similarity_) += similarity.sum();
  }
  at(total_) += similarity.numel();
}

torch::Tensor CosineSimilarity::result() const {
  return reduction_ == Reduction::mean ? at(similarity_) / at(total_) : at(similarity_);
}

}  // namespace troupe::metrics
