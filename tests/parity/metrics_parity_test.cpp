// Metrics against torchmetrics' (metric_cases.hpp says how). Where torchmetrics' own value is not the right one,
// metrics.py says how it is made to give that.
#include "tests/parity/metric_cases.hpp"
#include "troupe/modules/metrics/accuracy.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/auroc.hpp"
#include "troupe/modules/metrics/average_precision.hpp"
#include "troupe/modules/metrics/confusion_matrix.hpp"
#include "troupe/modules/metrics/cosine_similarity.hpp"
#include "troupe/modules/metrics/f_beta.hpp"
#include "troupe/modules/metrics/mean_error.hpp"
#include "troupe/modules/metrics/perplexity.hpp"
#include "troupe/modules/metrics/precision_recall.hpp"
#include "troupe/modules/metrics/r2_score.hpp"

#include <c10/util/StringUtil.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using metrics::Task;

MetricCases& metric_cases() {
  static MetricCases all("metrics.py");
  return all;
}

using Feed = MetricCases::Feed;

Feed pairs(const std::string& data) {
  return metric_cases().pairs(data);
}

template <class M, class Options>
MetricCases::Make make(Options options) {
  return MetricCases::make<M>(std::move(options));
}

void compare(const std::string& name, const MetricCases::Make& make_metric, const Feed& feed) {
  metric_cases().compare(name, make_metric, feed);
}

struct Data {
  std::string name;
  Task task;
  std::optional<int64_t> ignore_index = std::nullopt;
  bool has_scores = true;

  std::optional<int64_t> num_classes() const {
    return task == Task::multiclass ? std::optional<int64_t>(5) : std::nullopt;
  }
  std::optional<int64_t> num_labels() const {
    return task == Task::multilabel ? std::optional<int64_t>(4) : std::nullopt;
  }
  std::vector<std::string> averages(bool has_micro = true) const {
    if (task == Task::binary) return {"micro"};
    if (!has_micro) return {"macro", "weighted", "none"};
    return {"micro", "macro", "weighted", "none"};
  }
};

std::vector<Data> classification_data() {
  return {{"ties", Task::binary},
          {"logits", Task::binary},
          {"no_positive", Task::binary},
          {"no_negative", Task::binary},
          {"ignored", Task::binary, -1},
          {"ignored_logits", Task::binary, -1},
          {"mixed", Task::binary},
          {"confident", Task::binary},
          {"bit_labels", Task::binary, std::nullopt, false},
          {"classes", Task::multiclass},
          {"class_ties", Task::multiclass},
          {"class_missing", Task::multiclass},
          {"class_zero", Task::multiclass},
          {"class_images", Task::multiclass},
          {"class_ignored", Task::multiclass, -1},
          {"class_ignored_within", Task::multiclass, 2},
          {"class_mixed", Task::multiclass},
          {"class_labels", Task::multiclass, std::nullopt, false},
          {"labels", Task::multilabel},
          {"label_ties", Task::multilabel},
          {"label_ignored", Task::multilabel, -1},
          {"label_mixed", Task::multilabel},
          {"label_empty", Task::multilabel},
          {"label_bits", Task::multilabel, std::nullopt, false}};
}

template <class M>
void compare_shares(const char* metric, const Data& data, const std::string& average, int64_t k) {
  metrics::PrecisionRecallOptions options{.task = data.task,
                                          .threshold = 0.4,
                                          .num_classes = data.num_classes(),
                                          .num_labels = data.num_labels(),
                                          .average = named<metrics::Average>(average),
                                          .top_k = k,
                                          .ignore_index = data.ignore_index};
  const std::string name = std::string(metric) + "/" + data.name + "/" + average + "," + std::to_string(k);
  compare(name, make<M>(options), pairs(data.name));
  if (std::string(metric) == "F1Score") return;
  options.threshold = 0.5;
  options.zero_division = 1;
  compare(name + ",1", make<M>(options), pairs(data.name));
}

void compare_counts(const Data& data, const std::string& average, int64_t k) {
  compare_shares<metrics::Precision>("Precision", data, average, k);
  compare_shares<metrics::Recall>("Recall", data, average, k);
  compare_shares<metrics::F1Score>("F1Score", data, average, k);
  const auto options = "/" + data.name + "/" + average + "," + std::to_string(k);
  compare("Accuracy" + options,
          make<metrics::Accuracy>(metrics::AccuracyOptions{.task = data.task,
                                                           .threshold = 0.4,
                                                           .num_classes = data.num_classes(),
                                                           .num_labels = data.num_labels(),
                                                           .average = named<metrics::Average>(average),
                                                           .top_k = k,
                                                           .ignore_index = data.ignore_index}),
          pairs(data.name));
  metrics::FBetaScoreOptions f{.task = data.task,
                               .beta = 0.5,
                               .threshold = 0.4,
                               .num_classes = data.num_classes(),
                               .num_labels = data.num_labels(),
                               .average = named<metrics::Average>(average),
                               .top_k = k,
                               .ignore_index = data.ignore_index};
  compare("FBetaScore" + options, make<metrics::FBetaScore>(f), pairs(data.name));
  f.threshold = 0.5;
  f.zero_division = 1;
  compare("FBetaScore" + options + ",1", make<metrics::FBetaScore>(f), pairs(data.name));
}

TEST(MetricsParity, CountsOfRightAndWrongLabelsAreTorchmetrics) {
  for (const auto& data : classification_data()) {
    for (const auto& average : data.averages()) {
      compare_counts(data, average, 1);
      if (data.task == Task::multiclass && data.has_scores) compare_counts(data, average, 3);
    }
    for (const char* normalize : {"true", "pred", "all", "none"}) {
      compare("ConfusionMatrix/" + data.name + "/" + normalize,
              make<metrics::ConfusionMatrix>(
                  metrics::ConfusionMatrixOptions{.task = data.task,
                                                  .num_classes = data.num_classes(),
                                                  .num_labels = data.num_labels(),
                                                  .normalize = named<metrics::Normalize>(normalize),
                                                  .ignore_index = data.ignore_index}),
              pairs(data.name));
    }
  }
}

template <class M, class Options>
void compare_curve(const char* metric, const Data& data) {
  const std::pair<const char*, metrics::Thresholds> all[] = {
      {"exact", {}}, {"count", 7}, {"list", {0.1, 0.3, 0.5, 0.7}}};
  for (const auto& average : data.averages(data.task == Task::multilabel)) {
    for (const auto& [key, thresholds] : all) {
      compare(c10::str(metric, "/", data.name, "/", average, ",", key),
              make<M>(Options{
                  .task = data.task,
                  .thresholds = thresholds,
                  .num_classes = data.num_classes(),
                  .num_labels = data.num_labels(),
                  .average = data.task == Task::binary ? metrics::Average::macro : named<metrics::Average>(average),
                  .ignore_index = data.ignore_index}),
              pairs(data.name));
    }
  }
}

TEST(MetricsParity, CurvesAreTorchmetrics) {
  for (const auto& data : classification_data()) {
    if (!data.has_scores) continue;
    compare_curve<metrics::AUROC, metrics::AUROCOptions>("AUROC", data);
    compare_curve<metrics::AveragePrecision, metrics::AveragePrecisionOptions>("AveragePrecision", data);
  }
}

TEST(MetricsParity, ErrorsOfRegressionAreTorchmetrics) {
  using namespace metrics;
  for (const std::string data : {"values", "outputs", "far", "constant", "perfect", "small"}) {
    compare("MeanSquaredError/" + data + "/", make<MeanSquaredError>(MeanSquaredErrorOptions{}), pairs(data));
    compare("MeanSquaredError/" + data + "/root", make<MeanSquaredError>(MeanSquaredErrorOptions{.squared = false}),
            pairs(data));
    compare("MeanAbsoluteError/" + data + "/", make<MeanAbsoluteError>(MeanAbsoluteErrorOptions{}), pairs(data));
    for (const char* multioutput : {"uniform_average", "variance_weighted", "raw_values"}) {
      for (const int64_t adjusted : {0, 3}) {
        compare("R2Score/" + data + "/" + multioutput + "," + std::to_string(adjusted),
                make<R2Score>(R2ScoreOptions{.adjusted = adjusted, .multioutput = named<Multioutput>(multioutput)}),
                pairs(data));
      }
    }
  }
  const std::string outputs = "outputs";
  compare("MeanSquaredError/outputs/outputs", make<MeanSquaredError>(MeanSquaredErrorOptions{.num_outputs = 3}),
          pairs(outputs));
  compare("MeanAbsoluteError/outputs/outputs", make<MeanAbsoluteError>(MeanAbsoluteErrorOptions{.num_outputs = 3}),
          pairs(outputs));
  for (const char* reduction : {"sum", "mean", "none"}) {
    compare(std::string("CosineSimilarity/outputs/") + reduction,
            make<CosineSimilarity>(CosineSimilarityOptions{.reduction = named<Reduction>(reduction)}), pairs(outputs));
  }
}

TEST(MetricsParity, PerplexityIsTorchmetrics) {
  compare("Perplexity/tokens/", make<metrics::Perplexity>(metrics::PerplexityOptions{}), pairs("tokens"));
  compare("Perplexity/padded/", make<metrics::Perplexity>(metrics::PerplexityOptions{.ignore_index = -100}),
          pairs("padded"));
}

template <class M>
Feed values(bool weighted = false) {
  return [weighted](Metric& metric, int64_t batch, bool alone) {
    auto& aggregator = dynamic_cast<M&>(metric);
    const auto& value = metric_cases().input("holed", "preds", batch);
    if constexpr (std::is_same_v<M, metrics::MeanMetric>) {
      const auto weight = weighted ? metric_cases().input("holed", "target", batch) : torch::ones_like(value);
      if (alone) return aggregator(value, weight);
      aggregator.update(value, weight);
    } else {
      if (alone) return aggregator(value);
      aggregator.update(value);
    }
    return torch::Tensor();
  };
}

template <class M>
void compare_aggregator(const std::string& name) {
  compare(name + "/holed/ignore", make<M>(metrics::AggregatorOptions{.nan_strategy = metrics::NanStrategy::ignore}),
          values<M>());
  compare(name + "/holed/replace", make<M>(metrics::AggregatorOptions{.nan_strategy = 0.25}), values<M>());
}

TEST(MetricsParity, AggregatorsAreTorchmetrics) {
  compare_aggregator<metrics::SumMetric>("SumMetric");
  compare_aggregator<metrics::MinMetric>("MinMetric");
  compare_aggregator<metrics::MaxMetric>("MaxMetric");
  compare_aggregator<metrics::MeanMetric>("MeanMetric");
  compare("MeanMetric/holed/weighted",
          make<metrics::MeanMetric>(metrics::AggregatorOptions{.nan_strategy = metrics::NanStrategy::ignore}),
          values<metrics::MeanMetric>(/*weighted=*/true));
}

// Runs last: what the reference has was compared.
TEST(MetricsParity, NoCaseIsLeftOut) {
  metric_cases().expect_none_left_out();
}

}  // namespace
}  // namespace troupe
