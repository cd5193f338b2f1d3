// Collections, and what metrics of curves, correlation, retrieval, text and images refuse; their values are in
// tests/parity.
#include "tests/modules/metrics/any_cut.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/modules/metrics/agreement.hpp"
#include "troupe/modules/metrics/auroc.hpp"
#include "troupe/modules/metrics/correlation.hpp"
#include "troupe/modules/metrics/curves.hpp"
#include "troupe/modules/metrics/distribution.hpp"
#include "troupe/modules/metrics/f_beta.hpp"
#include "troupe/modules/metrics/image.hpp"
#include "troupe/modules/metrics/mean_error.hpp"
#include "troupe/modules/metrics/metric_collection.hpp"
#include "troupe/modules/metrics/overlap.hpp"
#include "troupe/modules/metrics/probability.hpp"
#include "troupe/modules/metrics/retrieval.hpp"
#include "troupe/modules/metrics/text.hpp"
#include "troupe/modules/module.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

namespace troupe::metrics {
namespace {

using ::testing::HasSubstr;

// --- Collections ---

MetricCollection five(const std::string& prefix = "") {
  return MetricCollection(prefix)
      .add("acc", three_classes())
      .add("f1", F1Score({.task = Task::multiclass, .num_classes = 3, .average = Average::macro}))
      .add("iou", JaccardIndex({.task = Task::multiclass, .num_classes = 3}))
      .add("auroc", AUROC({.task = Task::multiclass, .num_classes = 3}))
      .add("roc", ROC({.task = Task::multiclass, .num_classes = 3}))
      .add("top2", Accuracy({.task = Task::multiclass, .num_classes = 3, .top_k = 2}));
}

TEST(MetricCollections, MembersThatGatherTheSameShareTheirStates) {
  torch::manual_seed(2);
  auto all = five("val_");
  EXPECT_EQ(all.size(), 6u);
  EXPECT_EQ(all.groups(), 3u);
  auto accuracy = three_classes();
  JaccardIndex iou({.task = Task::multiclass, .num_classes = 3});
  AUROC auroc({.task = Task::multiclass, .num_classes = 3});
  for (int batch = 0; batch < 3; ++batch) {
    const auto preds = torch::randn({9, 3}), target = torch::arange(9) % 3;
    const auto alone = accuracy(preds, target);
    iou.update(preds, target);
    auroc.update(preds, target);
    if (batch == 1) {
      all.update(preds, target);
      EXPECT_FALSE(all["f1"].batch_value().defined());
    } else {
      const auto values = all(preds, target);
      EXPECT_EQ(values[0].first, "val_acc");
      EXPECT_EQ(values[0].second.item<double>(), alone.item<double>());
      EXPECT_EQ(all["iou"].batch_value().item<double>(), values[2].second.item<double>());
    }
  }
  EXPECT_EQ(all["f1"].update_count(), 3);
  const auto values = all.compute();
  EXPECT_EQ(values[0].second.item<double>(), accuracy.compute().item<double>());
  EXPECT_EQ(values[2].second.item<double>(), iou.compute().item<double>());
  EXPECT_EQ(values[3].second.item<double>(), auroc.compute().item<double>());
  // One of a group stands for all of it, as when replicas are merged or a checkpoint is loaded.
  auto other = five();
  other["acc"].load_states(all["f1"].states());
  EXPECT_EQ(other["iou"].compute().item<double>(), iou.compute().item<double>());
  other["iou"].reset();
  EXPECT_EQ(other["acc"].update_count(), 0);
  all.reset();
  EXPECT_EQ(all["auroc"].update_count(), 0);
}

TEST(MetricCollections, AFailedCallLeavesStatesAsTheyWere) {
  auto all = five();
  all(torch::rand({3, 3}), torch::tensor({0, 1, 2}));
  const double before = all["acc"].compute().item<double>();
  EXPECT_THAT(refusal([&] { all(torch::rand({3, 3}), torch::tensor({0, 1, 3})); }), HasSubstr("target holds 3"));
  EXPECT_EQ(all["iou"].update_count(), 1);
  EXPECT_EQ(all["acc"].compute().item<double>(), before);
}

TEST(MetricCollections, NameWhatDoesNotFit) {
  auto all = five();
  EXPECT_EQ(refusal([&] { all["auroq"]; }),
            "MetricCollection: there is no metric auroq; did you mean auroc? There are acc, f1, iou, auroc, roc, top2");
  EXPECT_EQ(refusal([&] { all.add("acc", three_classes()); }), "MetricCollection: acc is taken by Accuracy");
  EXPECT_EQ(refusal([&] { all.add("", three_classes()); }), "MetricCollection: a metric needs a name");
  all.update(torch::rand({3, 3}), torch::tensor({0, 1, 2}));
  EXPECT_THAT(refusal([&] { all.add("late", three_classes()); }), HasSubstr("late was added after an update"));
}

class WithCollection : public Module {
 public:
  MetricCollection all = register_metrics(five("val_"));
};

TEST(MetricCollections, BelongToTheModule) {
  WithCollection module;
  ASSERT_EQ(module.metrics().size(), 6u);
  EXPECT_EQ(module.metrics()[1].first, "val_f1");
  module.all.update(torch::rand({3, 3}), torch::tensor({0, 1, 2}));
  EXPECT_EQ(module.metrics()[1].second->update_count(), 1);
  module.log_dict(module.all.loggable());
}

// --- One class, no sample, NaN ---

TEST(EdgeInputs, OneClassHasTheValueOfItsDefinition) {
  MatthewsCorrCoef matthews({.task = Task::binary});
  const auto ones = torch::ones({5}, torch::kLong), some = torch::tensor({1, 1, 0, 1, 1});
  EXPECT_EQ(matthews(ones, ones).item<double>(), 1);
  EXPECT_EQ(matthews(1 - ones, ones).item<double>(), -1);
  EXPECT_EQ(matthews(some, ones).item<double>(), 0);
  EXPECT_EQ(matthews(ones, some).item<double>(), 0);
  CohenKappa kappa({.task = Task::binary});
  EXPECT_TRUE(std::isnan(kappa(ones, ones).item<double>()));
  Specificity specificity({.task = Task::binary});
  EXPECT_EQ(specificity(ones, ones).item<double>(), 0);
  PrecisionRecallCurve curve({.task = Task::binary});
  const auto points = curve(torch::tensor({0.2, 0.8}), torch::tensor({0, 0}));
  EXPECT_TRUE(points[0].equal(torch::tensor({0.0, 0.0, 1.0}, torch::kFloat64)));
  EXPECT_TRUE(points[1].equal(torch::tensor({1.0, 1.0, 0.0}, torch::kFloat64)));
}

TEST(EdgeInputs, NoSampleIsNan) {
  const auto none = torch::zeros({0}), no_label = torch::zeros({0}, torch::kLong);
  const auto is_nan = [](const torch::Tensor& value) { return std::isnan(value.item<double>()); };
  EXPECT_TRUE(is_nan(PearsonCorrCoef()(none, none)));
  EXPECT_TRUE(is_nan(SpearmanCorrCoef()(none, none)));
  EXPECT_TRUE(is_nan(KendallRankCorrCoef()(none, none)));
  EXPECT_TRUE(is_nan(ExplainedVariance()(none, none)));
  EXPECT_TRUE(is_nan(MeanAbsolutePercentageError()(none, none)));
  EXPECT_TRUE(is_nan(CalibrationError({.task = Task::binary})(none, no_label)));
  EXPECT_TRUE(is_nan(LogLoss({.task = Task::binary})(none, no_label)));
  EXPECT_TRUE(is_nan(HingeLoss({.task = Task::binary})(none, no_label)));
  EXPECT_TRUE(is_nan(WordErrorRate()(Texts{}, Texts{})));
  EXPECT_EQ(RetrievalMRR()(none, no_label, no_label).item<double>(), 0);
  WassersteinDistance distance;
  distance.update(none, torch::ones({2}));
  EXPECT_EQ(refusal([&] { distance.compute(); }),
            "WassersteinDistance needs values of both, there are 0 of preds and 2 of target");
  FrechetInceptionDistance frechet({.num_features = 2});
  frechet.update(torch::rand({5, 2}), true);
  EXPECT_EQ(refusal([&] { frechet.compute(); }),
            "FrechetInceptionDistance needs two samples of both, there are 5 of real images and 0 of others");
}

TEST(EdgeInputs, ThatAreNanMakeTheValueNan) {
  const auto scores = torch::tensor({0.9, nan, 0.2, 0.7}), y = torch::tensor({0.1, 0.5, 0.3, 0.4});
  const auto target = torch::tensor({1, 0, 0, 1});
  const auto is_nan = [](const torch::Tensor& value) { return value.isnan().all().item<bool>(); };
  EXPECT_TRUE(
      is_nan(value_of_any_cut(making<JaccardIndex>(JaccardIndexOptions{.task = Task::binary}), scores, target)));
  EXPECT_TRUE(is_nan(
      value_of_any_cut(making<CalibrationError>(CalibrationErrorOptions{.task = Task::binary}), scores, target)));
  EXPECT_TRUE(is_nan(value_of_any_cut(making<LogLoss>(LogLossOptions{.task = Task::binary}), scores, target)));
  EXPECT_TRUE(is_nan(
      value_of_any_cut(making<MatthewsCorrCoef>(MatthewsCorrCoefOptions{.task = Task::binary}), scores, target)));
  EXPECT_TRUE(is_nan(value_of_any_cut(making<PearsonCorrCoef>(PearsonCorrCoefOptions{}), scores, y)));
  EXPECT_TRUE(is_nan(value_of_any_cut(making<SpearmanCorrCoef>(SpearmanCorrCoefOptions{}), scores, y)));
  EXPECT_TRUE(is_nan(value_of_any_cut(making<KendallRankCorrCoef>(KendallRankCorrCoefOptions{}), scores, y)));
  EXPECT_TRUE(is_nan(value_of_any_cut(making<ExplainedVariance>(ExplainedVarianceOptions{}), scores, y)));
  EXPECT_TRUE(is_nan(value_of_any_cut(making<WassersteinDistance>(WassersteinDistanceOptions{}), scores, y)));
  EXPECT_TRUE(is_nan(ROC({.task = Task::binary})(scores, target)));
  EXPECT_TRUE(is_nan(RetrievalMAP()(scores, target, torch::zeros({4}, torch::kLong))));
}

// --- What is refused ---

TEST(Refusals, NameTheShapesAndTypes) {
  EXPECT_EQ(refusal([] {
              PearsonCorrCoef().update(torch::rand({4, 2}), torch::rand({4, 2}));
            }),
            "PearsonCorrCoef: preds is of shape [4, 2] and target of [4, 2]; with num_outputs = 1 it must be (N)");
  EXPECT_EQ(refusal([] { KLDivergence().update(torch::rand({4}), torch::rand({4})); }),
            "KLDivergence: preds is of shape [4] and target of [4]; give both one shape, (N, d)");
  EXPECT_THAT(refusal([] { LogLoss({.task = Task::binary}).update(torch::tensor({1}), torch::tensor({1})); }),
              HasSubstr("LogLoss: preds holds Long of shape [1]; scores of a floating type are needed"));
  EXPECT_EQ(
      refusal([] {
        DiceScore({.num_classes = 3}).update(torch::zeros({2, 4}, torch::kLong), torch::zeros({2, 4}, torch::kLong));
      }),
      "DiceScore: preds is of shape [2, 4] and target of [2, 4], of Long and Long; with input_format = one-hot both"
      " must be (N, 3, ...)");
  EXPECT_EQ(refusal([] {
              DiceScore({.num_classes = 3, .input_format = InputFormat::index})
                  .update(torch::full({2, 4}, 3), torch::zeros({2, 4}, torch::kLong));
            }),
            "DiceScore: preds or target holds 3; labels are 0 to 2");
  RetrievalMRR mrr;
  const auto scores = torch::rand({3}), long_ones = torch::ones({3}, torch::kLong);
  EXPECT_EQ(refusal([&] { mrr.update(scores, 2 * long_ones, long_ones); }),
            "RetrievalMRR: target holds 2; targets are 0 and 1");
  EXPECT_EQ(refusal([&] { mrr.update(scores, long_ones, scores); }),
            "RetrievalMRR: indexes holds Float; Long is needed");
  EXPECT_THAT(refusal([&] { mrr.update(scores, long_ones, torch::ones({2}, torch::kLong)); }),
              HasSubstr("indexes of [2]; give all one shape"));
  RetrievalRecall strict({.empty_target_action = EmptyTargetAction::error});
  strict.update(scores, 0 * long_ones, long_ones);
  EXPECT_EQ(refusal([&] { strict.compute(); }),
            "RetrievalRecall: a query has no document that is relevant, and empty_target_action is error");
  // A query's documents may come in any order, and those that are ignored are none of it.
  const auto spread = [](RetrievalOptions options) {
    RetrievalRecall recall(std::move(options));
    recall.update(torch::tensor({0.1F, 0.2F, 0.3F, 0.4F}), torch::tensor({1, 0, 0, 7}), torch::tensor({5, 2, 5, 2}));
    return recall.compute().item<double>();
  };
  EXPECT_THAT(refusal([&] { spread({.empty_target_action = EmptyTargetAction::error, .ignore_index = 7}); }),
              HasSubstr("is error"));
  EXPECT_EQ(spread({.empty_target_action = EmptyTargetAction::skip, .ignore_index = 7}), 1);
  EXPECT_EQ(refusal([] {
              WordErrorRate().update(Texts{"a", "b"}, Texts{"a"});
            }),
            "WordErrorRate: there are 2 preds and 1 targets");
  EXPECT_EQ(refusal([] { BLEUScore().update({"a"}, std::vector<Texts>{Texts{}}); }), "BLEUScore: text 0 has no target");
  EXPECT_EQ(refusal([] {
              CharErrorRate().update({"a"}, std::vector<Texts>{Texts{"a", "b"}});
            }),
            "CharErrorRate: text 0 has 2 targets; give one");
  StructuralSimilarityIndexMeasure similarity;
  EXPECT_EQ(refusal([&] {
              similarity.update(torch::rand({1, 1, 5, 9}), torch::rand({1, 1, 5, 9}));
            }),
            "StructuralSimilarityIndexMeasure: images are 5 x 9; with a window of 11 they must be larger than 5 x 5");
  EXPECT_EQ(refusal([] {
              FrechetInceptionDistance({.num_features = 4}).update(torch::rand({3, 2}), true);
            }),
            "FrechetInceptionDistance: features is of shape [3, 2]; give (N, 4)");
}

TEST(Refusals, NameTheOptions) {
  EXPECT_EQ(refusal([] { CohenKappa({.task = Task::multilabel}); }),
            "CohenKappa: task = multilabel; use binary or multiclass");
  EXPECT_EQ(refusal([] { CalibrationError({.task = Task::multilabel}); }),
            "CalibrationError: task = multilabel; use binary or multiclass");
  EXPECT_EQ(refusal([] { HingeLoss({.task = Task::multilabel}); }),
            "HingeLoss: task = multilabel; use binary or multiclass");
  EXPECT_EQ(refusal([] { CalibrationError({.task = Task::binary, .n_bins = 0}); }),
            "CalibrationError: n_bins = 0; use at least 1");
  EXPECT_EQ(refusal([] { HingeLoss({.task = Task::binary, .multiclass_mode = MulticlassMode::one_vs_all}); }),
            "HingeLoss: multiclass_mode = one-vs-all has no meaning for task = binary");
  EXPECT_EQ(refusal([] { BLEUScore({.n_gram = 2, .weights = std::vector<double>{1}}); }),
            "BLEUScore: there are 1 weights; give one of each n up to n_gram = 2");
  EXPECT_EQ(refusal([] { RetrievalMRR({.top_k = 0}); }), "RetrievalMRR: top_k = 0; use at least 1");
  EXPECT_EQ(refusal([] {
              PeakSignalNoiseRatio({.data_range = {1.0, 1.0}});
            }),
            "PeakSignalNoiseRatio: data_range = 0.0; use a number above 0.0");
  EXPECT_EQ(refusal([] { StructuralSimilarityIndexMeasure({.kernel_size = 4}); }),
            "StructuralSimilarityIndexMeasure: kernel_size = 4; use an odd number");
}

TEST(TextMetrics, TakeBytesThatAreNotText) {
  EXPECT_EQ(CharErrorRate()("a\xff", "ab").item<double>(), 0.5);
  EXPECT_EQ(EditDistance()("日本", "日本語").item<double>(), 1);
}

}  // namespace
}  // namespace troupe::metrics
