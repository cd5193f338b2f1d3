#include "troupe/modules/metrics/confusion_matrix.hpp"

#include "troupe/base/number_text.hpp"

#include <torch/types.h>
#include <torch/utils.h>

namespace troupe::metrics {

ConfusionMetric::ConfusionMetric(const char* name, const TaskOptions& options, double threshold)
    : ClassificationMetric(name, options), threshold_(threshold) {
  check_threshold(threshold_);
  auto shape = std::vector<int64_t>{2, classes(), 2, 2};  // scores read as probabilities, and as logits
  if (task() == Task::multiclass) shape = {classes(), classes()};
  confmat_ = add_state("confmat", torch::zeros(shape, torch::kLong), Combine::sum);
}

void ConfusionMetric::add(const torch::Tensor& preds, const torch::Tensor& target) {
  torch::Tensor& confmat = at(confmat_);
  if (task() == Task::multiclass) {
    const auto count_classes = [&](const int64_t* predicted, const int64_t* actual, int64_t samples) {
      auto* const count = confmat.mutable_data_ptr<int64_t>();
      for (int64_t i = 0; i < samples; ++i) ++count[actual[i] * classes() + predicted[i]];
    };
    if (for_small_classes(preds, target, count_classes)) return;
    const auto [predicted, actual, counted] = class_labels(preds, target, 1);
    confmat += count_by(actual * classes() + predicted, counted, classes() * classes()).view_as(confmat);
    return;
  }
  const auto count_answers = [&](const LabelAnswer* answers, int64_t number) {
    auto* const count = confmat.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < number; ++i) {
      const auto& [label, predicted, actual] = answers[i];
      for (int64_t reading = 0; reading < 2; ++reading) {
        ++count[4 * (reading * classes() + label) + 2 * (actual ? 1 : 0) + (predicted[reading] ? 1 : 0)];
      }
    }
  };
  if (for_small_answers(preds, target, threshold_, count_answers)) return;
  const auto [predicted, actual, counted] = threshold_labels(preds, target, threshold_);
  const auto first = 4 * torch::arange(2 * classes(), actual.options().dtype(torch::kLong)).view({2, classes(), 1});
  const auto cell = first + 2 * actual.to(torch::kLong) + predicted.to(torch::kLong);
  const auto counts = counted.expand_as(cell).reshape({-1});
  confmat += count_by(cell.reshape({-1}), counts, 8 * classes()).view_as(confmat);
}

std::string ConfusionMetric::sharing_key() const {
  return "ConfusionMetric " + task_key() + " " + double_to_text(threshold_);
}

torch::Tensor ConfusionMetric::matrix() const {
  if (task() == Task::multiclass) return at(confmat_);
  const auto confmat = of_reading(at(confmat_));
  return task() == Task::binary ? confmat.squeeze(0) : confmat;
}

ConfusionMatrix::ConfusionMatrix(ConfusionMatrixOptions options)
    : ConfusionMetric("ConfusionMatrix", {options.task, options.num_classes, options.num_labels, options.ignore_index},
                      options.threshold),
      normalize_(options.normalize) {}

void ConfusionMatrix::verify() const {
  ClassificationMetric::verify();
  if (has_nan().item<bool>()) refuse("preds holds nan, and a count cannot say so");
}

torch::Tensor ConfusionMatrix::result() const {
  const auto confmat = matrix();
  if (normalize_ == Normalize::none) return confmat;
  std::vector<int64_t> dimensions = {-2, -1};
  if (normalize_ == Normalize::target) dimensions = {-1};
  if (normalize_ == Normalize::pred) dimensions = {-2};
  return safe_divide(confmat, confmat.sum(dimensions, /*keepdim=*/true));
}

}  // namespace troupe::metrics
