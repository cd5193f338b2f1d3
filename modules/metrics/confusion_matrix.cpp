#include "troupe/modules/metrics/confusion_matrix.hpp"

#include <torch/torch.h>

namespace troupe::metrics {

ConfusionMatrix::ConfusionMatrix(ConfusionMatrixOptions options)
    : ClassificationMetric("ConfusionMatrix",
                           {options.task, options.num_classes, options.num_labels, options.ignore_index}),
      threshold_(options.threshold),
      normalize_(options.normalize) {
  check_threshold(threshold_);
  check_choice("normalize", normalize_, {"true", "pred", "all", "none"});
  auto shape = std::vector<int64_t>{2, 2};
  if (task() == Task::multiclass) shape = {classes(), classes()};
  if (task() == Task::multilabel) shape = {classes(), 2, 2};
  confmat_ = add_state("confmat", torch::zeros(shape, torch::kLong), Combine::sum);
}

void ConfusionMatrix::add(const torch::Tensor& preds, const torch::Tensor& target) {
  torch::Tensor& confmat = at(confmat_);
  if (task() == Task::multiclass) {
    const auto [predicted, actual, counted] = class_labels(preds, target, 1);
    confmat += count_by(actual * classes() + predicted, counted, classes() * classes()).view_as(confmat);
    return;
  }
  // torchmetrics lets ignored scores of a binary task have no say in whether scores are logits, those of labels have.
  const auto [predicted, actual, counted] = threshold_labels(preds, target, threshold_, task() == Task::binary);
  const auto label = torch::arange(classes(), actual.options()).unsqueeze(1);
  const auto cell = (4 * label + 2 * actual + predicted).reshape({-1});
  confmat += count_by(cell, counted.reshape({-1}), 4 * classes()).view_as(confmat);
}

torch::Tensor ConfusionMatrix::result() const {
  const auto& confmat = at(confmat_);
  if (normalize_ == "none") return confmat;
  std::vector<int64_t> dimensions = {-2, -1};
  if (normalize_ == "true") dimensions = {-1};
  if (normalize_ == "pred") dimensions = {-2};
  return safe_divide(confmat, confmat.sum(dimensions, /*keepdim=*/true));
}

}  // namespace troupe::metrics
