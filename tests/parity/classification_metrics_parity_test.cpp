// Metrics of classification that metrics_parity_test has not, against torchmetrics', and log-loss against
// scikit-learn's.
#include "tests/parity/metric_cases.hpp"
#include "troupe/modules/metrics/agreement.hpp"
#include "troupe/modules/metrics/curves.hpp"
#include "troupe/modules/metrics/overlap.hpp"
#include "troupe/modules/metrics/precision_recall.hpp"
#include "troupe/modules/metrics/probability.hpp"

#include <gtest/gtest.h>

#include <optional>

namespace troupe {
namespace {

using metrics::Task;

MetricCases& classification_cases() {
  static MetricCases all("classification_metrics.py");
  return all;
}

struct ClassData {
  std::string name;
  Task task;
  bool has_scores = true;
  std::optional<int64_t> ignore_index = std::nullopt;

  std::optional<int64_t> num_classes() const {
    return task == Task::multiclass ? std::optional<int64_t>(5) : std::nullopt;
  }
  std::optional<int64_t> num_labels() const {
    return task == Task::multilabel ? std::optional<int64_t>(4) : std::nullopt;
  }
  std::vector<std::string> averages() const {
    if (task == Task::binary) return {"micro"};
    return {"micro", "macro", "weighted", "none"};
  }
};

const std::vector<ClassData>& class_data() {
  static const std::vector<ClassData> all = {{"ties", Task::binary},
                                             {"logits", Task::binary},
                                             {"no_positive", Task::binary},
                                             {"no_negative", Task::binary},
                                             {"ignored", Task::binary, true, -1},
                                             {"ignored_logits", Task::binary, true, -1},
                                             {"mixed", Task::binary},
                                             {"confident", Task::binary},
                                             {"bit_labels", Task::binary, false},
                                             {"classes", Task::multiclass},
                                             {"class_ties", Task::multiclass},
                                             {"class_missing", Task::multiclass},
                                             {"class_zero", Task::multiclass},
                                             {"class_images", Task::multiclass},
                                             {"class_ignored", Task::multiclass, true, -1},
                                             {"class_ignored_within", Task::multiclass, true, 2},
                                             {"class_mixed", Task::multiclass},
                                             {"class_labels", Task::multiclass, false},
                                             {"labels", Task::multilabel},
                                             {"label_ties", Task::multilabel},
                                             {"label_ignored", Task::multilabel, true, -1},
                                             {"label_mixed", Task::multilabel},
                                             {"label_empty", Task::multilabel},
                                             {"label_bits", Task::multilabel, false}};
  return all;
}

TEST(ClassificationMetricsParity, SpecificityAndJaccardIndexAreTorchmetrics) {
  auto& cases = classification_cases();
  for (const auto& data : class_data()) {
    for (const auto& average : data.averages()) {
      for (const int64_t k : {1, 3}) {
        if (k > 1 && (data.task != Task::multiclass || !data.has_scores)) continue;
        cases.compare_pairs<metrics::Specificity>(
            "Specificity/" + data.name + "/" + average + "," + std::to_string(k),
            metrics::SpecificityOptions{.task = data.task,
                                        .num_classes = data.num_classes(),
                                        .num_labels = data.num_labels(),
                                        .average = named<metrics::Average>(average),
                                        .top_k = k,
                                        .ignore_index = data.ignore_index},
            data.name);
      }
      cases.compare_pairs<metrics::JaccardIndex>(
          "JaccardIndex/" + data.name + "/" + average,
          metrics::JaccardIndexOptions{.task = data.task,
                                       .num_classes = data.num_classes(),
                                       .num_labels = data.num_labels(),
                                       .average = named<metrics::Average>(average),
                                       .ignore_index = data.ignore_index},
          data.name);
    }
  }
}

TEST(ClassificationMetricsParity, AgreementIsTorchmetrics) {
  auto& cases = classification_cases();
  for (const auto& data : class_data()) {
    cases.compare_pairs<metrics::MatthewsCorrCoef>("MatthewsCorrCoef/" + data.name + "/",
                                                   metrics::MatthewsCorrCoefOptions{.task = data.task,
                                                                                    .num_classes = data.num_classes(),
                                                                                    .num_labels = data.num_labels(),
                                                                                    .ignore_index = data.ignore_index},
                                                   data.name);
    if (data.task == Task::multilabel) continue;
    for (const std::string weights : {"none", "linear", "quadratic"}) {
      cases.compare_pairs<metrics::CohenKappa>(
          "CohenKappa/" + data.name + "/" + weights,
          metrics::CohenKappaOptions{.task = data.task,
                                     .num_classes = data.num_classes(),
                                     .weights = named<metrics::KappaWeights>(weights),
                                     .ignore_index = data.ignore_index},
          data.name);
    }
  }
}

void compare_probabilities(const ClassData& data) {
  auto& cases = classification_cases();
  for (const std::string norm : {"l1", "l2", "max"}) {
    cases.compare_pairs<metrics::CalibrationError>(
        "CalibrationError/" + data.name + "/" + norm,
        metrics::CalibrationErrorOptions{.task = data.task,
                                         .n_bins = 10,
                                         .norm = named<metrics::CalibrationNorm>(norm),
                                         .num_classes = data.num_classes(),
                                         .ignore_index = data.ignore_index},
        data.name);
  }
  for (const std::string mode : {"crammer-singer", "one-vs-all"}) {
    if (mode == "one-vs-all" && data.task == Task::binary) continue;
    for (const bool squared : {false, true}) {
      cases.compare_pairs<metrics::HingeLoss>(
          "HingeLoss/" + data.name + "/" + mode + (squared ? ",1" : ",0"),
          metrics::HingeLossOptions{.task = data.task,
                                    .squared = squared,
                                    .num_classes = data.num_classes(),
                                    .multiclass_mode = named<metrics::MulticlassMode>(mode),
                                    .ignore_index = data.ignore_index},
          data.name);
    }
  }
}

TEST(ClassificationMetricsParity, CostsOfProbabilitiesAreTorchmetricsAndScikitLearns) {
  for (const auto& data : class_data()) {
    if (!data.has_scores) continue;
    if (data.task != Task::multilabel) compare_probabilities(data);
    classification_cases().compare_pairs<metrics::LogLoss>("LogLoss/" + data.name + "/",
                                                           metrics::LogLossOptions{.task = data.task,
                                                                                   .num_classes = data.num_classes(),
                                                                                   .num_labels = data.num_labels(),
                                                                                   .ignore_index = data.ignore_index},
                                                           data.name);
  }
}

TEST(ClassificationMetricsParity, PointsOfCurvesAreTorchmetrics) {
  auto& cases = classification_cases();
  const std::pair<std::string, metrics::Thresholds> all[] = {{"exact", {}}, {"count", 7}};
  for (const auto& data : class_data()) {
    if (!data.has_scores || data.name == "confident") continue;
    for (const auto& [key, thresholds] : all) {
      const metrics::CurvePointsOptions options{.task = data.task,
                                                .thresholds = thresholds,
                                                .num_classes = data.num_classes(),
                                                .num_labels = data.num_labels(),
                                                .ignore_index = data.ignore_index};
      cases.compare_pairs<metrics::PrecisionRecallCurve>("PrecisionRecallCurve/" + data.name + "/" + key, options,
                                                         data.name);
      cases.compare_pairs<metrics::ROC>("ROC/" + data.name + "/" + key, options, data.name);
    }
  }
}

TEST(ClassificationMetricsParity, DiceScoreIsTorchmetrics) {
  const std::pair<std::string, std::string> formats[] = {
      {"index", "segments"}, {"mixed", "segment_scores"}, {"one-hot", "segment_bits"}};
  for (const auto& [format, data] : formats) {
    for (const std::string average : {"micro", "macro", "weighted", "none"}) {
      for (const std::string level : {"samplewise", "global"}) {
        for (const bool background : {true, false}) {
          classification_cases().compare_pairs<metrics::DiceScore>(
              "DiceScore/" + format + "/" + average + "," + level + (background ? ",1" : ",0"),
              metrics::DiceScoreOptions{.num_classes = 5,
                                        .include_background = background,
                                        .average = named<metrics::Average>(average),
                                        .input_format = named<metrics::InputFormat>(format),
                                        .aggregation_level = named<metrics::AggregationLevel>(level)},
              data);
        }
      }
    }
  }
}

// Runs last.
TEST(ClassificationMetricsParity, NoCaseIsLeftOut) {
  classification_cases().expect_none_left_out();
}

}  // namespace
}  // namespace troupe
