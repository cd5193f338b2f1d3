// What metrics keep, and what they refuse. Their values are in tests/parity.
#include "tests/refusal.hpp"
#include "troupe/modules/metrics/accuracy.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/auroc.hpp"
#include "troupe/modules/metrics/average_precision.hpp"
#include "troupe/modules/metrics/confusion_matrix.hpp"
#include "troupe/modules/metrics/cosine_similarity.hpp"
#include "troupe/modules/metrics/f_beta.hpp"
#include "troupe/modules/metrics/mean_error.hpp"
#include "troupe/modules/metrics/perplexity.hpp"
#include "troupe/modules/metrics/r2_score.hpp"
#include "troupe/modules/module.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using namespace troupe::metrics;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Accuracy three_classes() {
  return Accuracy({.task = "multiclass", .num_classes = 3});
}

// --- A metric's life ---

TEST(Metric, UpdatesAddUpUntilTheReset) {
  auto accuracy = three_classes();
  accuracy.update(torch::tensor({0, 1, 2}), torch::tensor({0, 1, 1}));
  accuracy.update(torch::tensor({2}), torch::tensor({2}));
  EXPECT_EQ(accuracy.update_count(), 2);
  EXPECT_EQ(accuracy.compute().item<double>(), 0.75);
  EXPECT_EQ(accuracy.compute().dim(), 0);
  accuracy.reset();
  EXPECT_EQ(accuracy.update_count(), 0);
  EXPECT_EQ(refusal([&] { accuracy.compute(); }),
            "Accuracy has nothing to compute: there was no update since it was made or reset");
}

TEST(Metric, ACallGivesTheValueOfItsBatchAndCountsForTheEpoch) {
  auto accuracy = three_classes();
  EXPECT_FALSE(accuracy.batch_value().defined());
  EXPECT_EQ(accuracy(torch::tensor({0, 1}), torch::tensor({0, 1})).item<double>(), 1);
  EXPECT_EQ(accuracy(torch::tensor({0, 1}), torch::tensor({2, 2})).item<double>(), 0);
  EXPECT_EQ(accuracy.batch_value().item<double>(), 0);
  EXPECT_EQ(accuracy.compute().item<double>(), 0.5);
  accuracy.update(torch::tensor({0}), torch::tensor({0}));
  EXPECT_FALSE(accuracy.batch_value().defined()) << "the latest batch has no value of its own";
}

TEST(Metric, ABatchThatIsRefusedChangesNothing) {
  auto accuracy = three_classes();
  accuracy.update(torch::tensor({0}), torch::tensor({0}));
  EXPECT_NE(refusal([&] { accuracy.update(torch::tensor({0}), torch::tensor({7})); }), "accepted");
  EXPECT_NE(refusal([&] { accuracy(torch::tensor({0}), torch::tensor({7})); }), "accepted");
  EXPECT_EQ(accuracy.update_count(), 1);
  EXPECT_EQ(accuracy.compute().item<double>(), 1);
}

TEST(Metric, ValuesAreNotThoseOfLaterBatches) {
  SumMetric sum;
  sum.update(1.0);
  const auto first = sum.compute();
  const auto batch = sum(2.0);
  sum.update(4.0);
  EXPECT_EQ(first.item<double>(), 1);
  EXPECT_EQ(batch.item<double>(), 2);
}

TEST(Metric, NeedsAndKeepsNoGraph) {
  MeanSquaredError error;
  const auto preds = torch::ones({3}, torch::requires_grad());
  EXPECT_FALSE(error(preds, torch::zeros({3})).requires_grad());
  AUROC auroc({.task = "binary"});
  auroc.update(preds, torch::ones({3}, torch::kLong));
  for (const auto& state : auroc.states().states) EXPECT_FALSE(state.value.requires_grad()) << state.name;
}

TEST(Metric, KeepsItsOwnCopyOfScores) {
  AUROC auroc({.task = "binary"});
  auto preds = torch::tensor({0.1, 0.2, 0.8});
  auto target = torch::tensor({0, 0, 1});
  auroc.update(preds, target);
  preds.fill_(0.5);
  target.fill_(0);
  EXPECT_EQ(auroc.compute().item<double>(), 1);
}

TEST(Metric, SumsOfManyFloatsHold) {
  MeanMetric mean;
  MeanSquaredError error;
  const auto values = torch::full({1000}, 0.1F);
  for (int i = 0; i < 3000; ++i) {
    mean.update(values);
    error.update(values + 100, values);
  }
  EXPECT_NEAR(mean.compute().item<double>(), 0.1F, 1e-9);
  EXPECT_NEAR(error.compute().item<double>(), 1e4, 1e-2);  // 100.1F is not 100.1
}

// --- States ---

TEST(MetricStates, ReplicasWithoutUpdatesAddNothing) {
  R2Score whole, part, idle;
  const auto y = torch::arange(12, torch::kFloat64).reshape({6, 2}), noise = torch::rand({6, 2}, torch::kFloat64);
  whole.update(y + noise, y);
  part.update(y + noise, y);
  for (const auto& replicas :
       {std::vector{idle.states(), part.states(), idle.states()}, std::vector{part.states(), idle.states()}}) {
    R2Score all;
    all.load_states(merged(replicas));
    EXPECT_EQ(all.compute().item<double>(), whole.compute().item<double>());
  }
  R2Score none;
  none.load_states(merged({idle.states(), idle.states()}));
  EXPECT_EQ(none.update_count(), 0);
}

TEST(MetricStates, JoinInTheOrderOfTheRanks) {
  CosineSimilarity a({.reduction = "none"}), b({.reduction = "none"});
  a.update(torch::tensor({{1.0, 0.0}}), torch::tensor({{1.0, 0.0}}));
  b.update(torch::tensor({{1.0, 0.0}}), torch::tensor({{-1.0, 0.0}}));
  CosineSimilarity all({.reduction = "none"});
  all.load_states(merged({a.states(), b.states()}));
  EXPECT_TRUE(all.compute().equal(torch::tensor({1.0, -1.0}, torch::kFloat64)));
}

TEST(MetricStates, MergingLeavesTheReplicasAlone) {
  SumMetric a, b;
  a.update(1.0);
  b.update(2.0);
  SumMetric all;
  all.load_states(merged({a.states(), b.states()}));
  all.update(10.0);
  EXPECT_EQ(all.compute().item<double>(), 13);
  EXPECT_EQ(a.compute().item<double>(), 1);
}

TEST(MetricStates, OfAnotherMetricAreRefused) {
  auto accuracy = three_classes();
  SumMetric sum;
  MinMetric min;
  EXPECT_THAT(refusal([&] { accuracy.load_states(sum.states()); }),
              HasSubstr("the states are not those of Accuracy: there are 2, not 8"));
  EXPECT_THAT(refusal([&] { min.load_states(sum.states()); }),
              HasSubstr("sum_value (sum) stands where min_value (min) is"));
  Accuracy four({.task = "multiclass", .num_classes = 4});
  EXPECT_THAT(refusal([&] { four.load_states(accuracy.states()); }), HasSubstr("tp is Long [3], not Long [4]"));
  EXPECT_THAT(refusal([&] { merged({sum.states(), min.states()}); }), HasSubstr("state 1 is sum_value (sum) in one"));
  EXPECT_NE(refusal([] { merged(std::vector<MetricStates>{}); }), "accepted");
}

// --- Scores ---

using Make = std::function<std::unique_ptr<TargetMetric>()>;

template <class M, class Options>
Make making(Options options) {
  return [options] { return std::make_unique<M>(options); };
}

torch::Tensor compute_in_parts(const Make& make, const torch::Tensor& preds, const torch::Tensor& target,
                               int64_t rows) {
  const auto metric = make();
  for (int64_t first = 0; first < preds.size(0); first += rows) {
    metric->update(preds.slice(0, first, first + rows), target.slice(0, first, first + rows));
  }
  return metric->compute();
}

// The value of all rows at once, which must also be that of any cut, of calls, and of replicas that are merged.
torch::Tensor value_of_any_cut(const Make& make, const torch::Tensor& preds, const torch::Tensor& target) {
  const auto value = compute_in_parts(make, preds, target, preds.size(0));
  const auto expect_it = [&](const torch::Tensor& other, const char* how) {
    EXPECT_TRUE(torch::allclose(other.to(torch::kDouble), value.to(torch::kDouble), 1e-9, 1e-12, /*equal_nan=*/true))
        << how << "\n"
        << other << "\nnot " << value;
  };
  for (int64_t rows = 1; rows < preds.size(0); ++rows) {
    expect_it(compute_in_parts(make, preds, target, rows), "in parts");
  }
  const auto called = make();
  std::vector<MetricStates> states;
  for (int64_t row = 0; row < preds.size(0); ++row) {
    const auto x = preds.slice(0, row, row + 1), y = target.slice(0, row, row + 1);
    (*called)(x, y);
    const auto replica = make();
    replica->update(x, y);
    states.push_back(replica->states());
  }
  expect_it(called->compute(), "called");
  const auto all = make();
  all->load_states(merged(states));
  expect_it(all->compute(), "merged");
  return value;
}

TEST(Scores, AreLogitsOrProbabilitiesForAnyCutOfTheData) {
  const auto scores = torch::tensor({0.9F, 2.0F, 0.2F, 0.8F}), target = torch::tensor({0, 1, 0, 1});
  // As logits all four are a yes.
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(AccuracyOptions{.task = "binary"}), scores, target).item<double>(), 0.5);
  EXPECT_EQ(value_of_any_cut(making<Recall>(PrecisionRecallOptions{.task = "binary"}), scores, target).item<double>(),
            1);
  EXPECT_TRUE(value_of_any_cut(making<ConfusionMatrix>(ConfusionMatrixOptions{.task = "binary"}), scores, target)
                  .equal(torch::tensor({{0, 2}, {0, 2}})));
  EXPECT_EQ(value_of_any_cut(making<AUROC>(AUROCOptions{.task = "binary"}), scores, target).item<double>(), 0.75);
  // Between 0.5 and 0.71 = sigmoid(0.9) lie 0.55 and 0.69.
  EXPECT_EQ(value_of_any_cut(making<AUROC>(AUROCOptions{.task = "binary", .thresholds = {0.5, 0.6, 0.7, 0.8}}), scores,
                             target)
                .item<double>(),
            0.75);
  // Without the 2 they are probabilities.
  const auto shares = torch::tensor({0.9F, 0.7F, 0.2F, 0.8F});
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(AccuracyOptions{.task = "binary"}), shares, target).item<double>(), 0.75);
}

TEST(Scores, OfLabelsAndClassesToo) {
  torch::manual_seed(1);
  auto scores = torch::rand({9, 3});
  scores[4][1] = -3;
  const auto bits = torch::randint(0, 2, {9, 3}), classes = torch::arange(9) % 3;
  for (const char* average : {"micro", "macro", "none"}) {
    value_of_any_cut(making<F1Score>(PrecisionRecallOptions{.task = "multilabel", .num_labels = 3, .average = average}),
                     scores, bits);
    value_of_any_cut(
        making<AveragePrecision>(AveragePrecisionOptions{.task = "multilabel", .num_labels = 3, .average = average}),
        scores, bits);
  }
  value_of_any_cut(making<ConfusionMatrix>(ConfusionMatrixOptions{.task = "multilabel", .num_labels = 3}), scores,
                   bits);
  for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
    const auto make = making<AUROC>(AUROCOptions{.task = "multiclass", .thresholds = thresholds, .num_classes = 3});
    const auto value = value_of_any_cut(make, scores, classes);
    EXPECT_NEAR(value.item<double>(), compute_in_parts(make, scores.softmax(1), classes, 9).item<double>(), 1e-12);
  }
}

TEST(Scores, WhoseTargetIsIgnoredHaveNoSay) {
  const auto scores = torch::tensor({0.2F, 7.0F, 0.8F, static_cast<float>(nan)});
  const auto target = torch::tensor({0, -1, 1, -1});
  const auto accuracy = making<Accuracy>(AccuracyOptions{.task = "binary", .ignore_index = -1});
  EXPECT_EQ(value_of_any_cut(accuracy, scores, target).item<double>(), 1);
  for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
    const auto make = making<AUROC>(AUROCOptions{.task = "binary", .thresholds = thresholds, .ignore_index = -1});
    EXPECT_EQ(value_of_any_cut(make, scores, target).item<double>(), 1);
  }
}

TEST(Scores, ThatAreNanMakeTheValueNan) {
  const auto nans = torch::full({4}, nan), some = torch::tensor({0.9, 0.1, nan, 0.8}),
             target = torch::tensor({0, 0, 0, 1});
  for (const auto& scores : {nans, some}) {
    const auto logits = torch::stack({-scores, scores}, 1);
    for (const char* average : {"micro", "macro", "weighted"}) {
      const AccuracyOptions options{.task = "multiclass", .num_classes = 2, .average = average};
      EXPECT_TRUE(std::isnan(value_of_any_cut(making<Accuracy>(options), logits, target).item<double>()));
    }
    const AccuracyOptions binary{.task = "binary"}, best_two{.task = "multiclass", .num_classes = 2, .top_k = 2};
    EXPECT_TRUE(std::isnan(value_of_any_cut(making<Accuracy>(binary), scores, target).item<double>()));
    EXPECT_TRUE(std::isnan(value_of_any_cut(making<Accuracy>(best_two), logits, target).item<double>()));
    for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
      const AUROCOptions curve{.task = "binary", .thresholds = thresholds};
      const AveragePrecisionOptions classes{.task = "multiclass", .thresholds = thresholds, .num_classes = 2};
      EXPECT_TRUE(std::isnan(value_of_any_cut(making<AUROC>(curve), scores, target).item<double>()));
      EXPECT_TRUE(std::isnan(value_of_any_cut(making<AveragePrecision>(classes), logits, target).item<double>()));
    }
  }
  Accuracy accuracy({.task = "binary"});
  accuracy.update(torch::tensor({0.9}), torch::tensor({1}));
  EXPECT_EQ(accuracy.warning(), "");
  accuracy.update(some, target);
  EXPECT_EQ(accuracy.warning(), "Accuracy is nan, since predictions are");
  ConfusionMatrix counts({.task = "binary"});
  counts.update(some, target);
  EXPECT_EQ(refusal([&] { counts.compute(); }), "ConfusionMatrix: preds holds nan, and a count cannot say so");
}

TEST(Scores, OneNanTurnsNoProbabilityIntoALogit) {
  AUROC auroc({.task = "multiclass", .num_classes = 2, .average = "none", .ignore_index = -1});
  const auto scores = torch::tensor({{0.9F, 0.1F}, {0.2F, 0.8F}, {static_cast<float>(nan), 0.0F}});
  auroc.update(scores, torch::tensor({0, 1, -1}));
  EXPECT_TRUE(auroc.compute().equal(torch::ones({2}, torch::kDouble)));
  EXPECT_EQ(auroc.states().states[2].value.item<float>(), 0.1F) << "the lowest score";
}

TEST(Curves, RankTheLogitsOfAConfidentModel) {
  const auto logits = torch::tensor({18.0F, 19.0F, 20.0F, 17.5F}), target = torch::tensor({0, 1, 1, 0});
  const AUROCOptions binary{.task = "binary"};
  EXPECT_EQ(value_of_any_cut(making<AUROC>(binary), logits, target).item<double>(), 1);
  EXPECT_EQ(value_of_any_cut(making<AveragePrecision>(AveragePrecisionOptions{.task = "binary"}), logits, target)
                .item<double>(),
            1);
  const AUROCOptions two{.task = "multiclass", .num_classes = 2}, three{.task = "multiclass", .num_classes = 3};
  const auto of_two = torch::tensor({{0.0F, 30.0F}, {0.0F, 40.0F}, {0.0F, 900.0F}, {0.0F, -5.0F}});
  EXPECT_EQ(value_of_any_cut(making<AUROC>(two), of_two, torch::tensor({0, 1, 1, 0})).item<double>(), 1);
  // The odds of class 1 rise, those of class 2 fall, and equal ones are equal in whatever order the others come.
  const auto of_three =
      torch::tensor({{0.0F, 30.0F, 1.0F}, {1.0F, 50.0F, 1.0F}, {1.0F, 1.0F, 0.0F}, {0.0F, 1.0F, 1.0F}});
  const AUROCOptions each{.task = "multiclass", .num_classes = 3, .average = "none"};
  EXPECT_EQ(value_of_any_cut(making<AUROC>(each), of_three, torch::tensor({2, 1, 2, 0}))[1].item<double>(), 1);
  EXPECT_NEAR(value_of_any_cut(making<AUROC>(each), of_three, torch::tensor({0, 0, 1, 2}))[1].item<double>(), 0.5 / 3,
              1e-12);
  // Two classes of equal logits: a half, which is at least the threshold 0.5.
  const AUROCOptions at_half{.task = "multiclass", .thresholds = {0.5, 0.75}, .num_classes = 2, .average = "none"};
  AUROC flat(at_half);
  flat.update(torch::tensor({{2.0F, 2.0F}, {-4.0F, -4.0F}}), torch::tensor({0, 1}));
  for (const auto& state : flat.states().states) {
    if (state.name != "yes") continue;
    EXPECT_TRUE(state.value[1].equal(torch::tensor({{0, 1, 0}, {0, 1, 0}}))) << state.value;
  }
}

// --- Averages ---

TEST(Averages, LeaveOutTheClassThatIsIgnored) {
  // Class 2 is ignored, and predicted once where class 0 was right.
  const auto preds = torch::tensor({0, 2, 1, 1}), target = torch::tensor({0, 0, 1, 2});
  const PrecisionRecallOptions options{.task = "multiclass", .num_classes = 3, .average = "macro", .ignore_index = 2};
  EXPECT_EQ(value_of_any_cut(making<Recall>(options), preds, target).item<double>(), 0.75);
  EXPECT_EQ(value_of_any_cut(making<metrics::Precision>(options), preds, target).item<double>(), 1);
  EXPECT_NEAR(value_of_any_cut(making<F1Score>(options), preds, target).item<double>(), 0.8333333, 1e-6);
  const AccuracyOptions accuracy{.task = "multiclass", .num_classes = 3, .average = "macro", .ignore_index = 2};
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(accuracy), preds, target).item<double>(), 0.75);
  const auto scores = torch::one_hot(preds, 3).to(torch::kFloat);
  const AUROCOptions curve{.task = "multiclass", .num_classes = 3, .ignore_index = 2};
  // Class 0 against 1: 0.75; class 1 against 0: 1; class 2 has no yes.
  EXPECT_EQ(value_of_any_cut(making<AUROC>(curve), scores, target).item<double>(), 0.875);
}

TEST(Averages, LeaveOutLabelsWithoutAValue) {
  const auto scores = torch::tensor({{0.9F, 0.4F}, {0.1F, 0.3F}});
  const auto no_yes = torch::tensor({{1, 0}, {0, 0}}), all_ignored = torch::tensor({{1, -1}, {0, -1}});
  for (const auto& target : {no_yes, all_ignored}) {
    for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
      const AUROCOptions roc{.task = "multilabel", .thresholds = thresholds, .num_labels = 2, .ignore_index = -1};
      const AveragePrecisionOptions ap{
          .task = "multilabel", .thresholds = thresholds, .num_labels = 2, .ignore_index = -1};
      EXPECT_EQ(value_of_any_cut(making<AUROC>(roc), scores, target).item<double>(), 1);
      EXPECT_EQ(value_of_any_cut(making<AveragePrecision>(ap), scores, target).item<double>(), 1);
    }
  }
  const AccuracyOptions options{.task = "multilabel", .num_labels = 2, .average = "macro", .ignore_index = -1};
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(options), scores, all_ignored).item<double>(), 1);
}

// --- Bad input ---

TEST(Classification, NamesTheLabelThatIsOutOfRange) {
  auto accuracy = three_classes();
  EXPECT_EQ(refusal([&] {
              accuracy.update(torch::rand({2, 3}), torch::tensor({1, 3}));
            }),
            "Accuracy: target holds 3; labels are 0 to 2");
  EXPECT_EQ(refusal([&] {
              accuracy.update(torch::tensor({0, -1}), torch::tensor({1, 1}));
            }),
            "Accuracy: preds holds -1; labels are 0 to 2");
  AUROC binary({.task = "binary", .ignore_index = -1});
  EXPECT_EQ(refusal([&] {
              binary.update(torch::rand({3}), torch::tensor({0, -1, 2}));
            }),
            "AUROC: target holds 2; labels are 0 and 1, or ignore_index = -1");
  F1Score multilabel({.task = "multilabel", .num_labels = 2});
  EXPECT_EQ(refusal([&] {
              multilabel.update(torch::rand({1, 2}), torch::tensor({{0.5, 1.0}}));
            }),
            "F1Score: target holds 0.5; labels are 0 and 1");
  multilabel.update(torch::rand({1, 2}), torch::tensor({{0.0, 1.0}}));  // as binary_cross_entropy takes them
  EXPECT_EQ(refusal([&] {
              multilabel.update(torch::rand({1, 2}), torch::tensor({{nan, 1.0}}));
            }),
            "F1Score: target holds nan; labels are 0 and 1");
  Perplexity perplexity;
  EXPECT_THAT(refusal([&] {
                perplexity.update(torch::rand({1, 1, 4}), torch::tensor({{4}}));
              }),
              HasSubstr("target holds 4; targets are 0 to the size of the vocabulary - 1"));
}

TEST(Classification, NamesTheShapesThatDoNotFit) {
  auto accuracy = three_classes();
  EXPECT_EQ(refusal([&] {
              accuracy.update(torch::rand({8, 4}), torch::zeros({8}, torch::kLong));
            }),
            "Accuracy: preds is of shape [8, 4] and target of shape [8]; with num_classes = 3 preds must be scores of"
            " shape (N, 3, ...) or labels of target's shape (N, ...)");
  EXPECT_THAT(refusal([&] { accuracy.update(torch::rand({8}), torch::zeros({8}, torch::kLong)); }),
              HasSubstr("but preds holds Float: give scores of shape (N, 3, ...), or labels of an integer type"));
  ConfusionMatrix labels({.task = "multilabel", .num_labels = 4});
  EXPECT_THAT(refusal([&] {
                labels.update(torch::rand({8, 3}), torch::zeros({8, 3}, torch::kLong));
              }),
              HasSubstr("with num_labels = 4 it must be (N, 4, ...)"));
  AUROC auroc({.task = "multiclass", .num_classes = 3});
  EXPECT_THAT(refusal([&] { auroc.update(torch::zeros({8}, torch::kLong), torch::zeros({8}, torch::kLong)); }),
              HasSubstr("preds holds Long of shape [8]; scores of a floating type are needed, (N, C, ...)"));
  EXPECT_THAT(refusal([&] {
                auroc.update(torch::rand({8, 3}), torch::zeros({8}));
              }),
              HasSubstr("target holds Float; labels of an integer type are needed"));
  MeanSquaredError error;
  EXPECT_EQ(refusal([&] {
              error.update(torch::rand({3}), torch::rand({3, 1}));
            }),
            "MeanSquaredError: preds is of shape [3] and target of [3, 1]; give both one shape");
  EXPECT_EQ(refusal([&] { error.update(torch::Tensor(), torch::rand({3})); }), "MeanSquaredError: preds is undefined");
}

TEST(Classification, NamesTheOptionThatCannotBe) {
  EXPECT_THAT(refusal([] { Accuracy({.task = "multiclas", .num_classes = 3}); }),
              HasSubstr("Accuracy: task = multiclas; did you mean multiclass?"));
  EXPECT_EQ(refusal([] { Accuracy({.task = "multiclass"}); }), "Accuracy: task = multiclass needs num_classes");
  EXPECT_EQ(refusal([] { Accuracy({.task = "binary", .num_labels = 2}); }),
            "Accuracy: num_labels has no meaning for task = binary");
  EXPECT_EQ(refusal([] { Accuracy({.task = "multiclass", .num_classes = 1}); }),
            "Accuracy: num_classes = 1; use at least 2");
  EXPECT_EQ(refusal([] { Accuracy({.task = "multiclass", .num_classes = 3, .top_k = 4}); }),
            "Accuracy: top_k = 4 is more than num_classes = 3");
  EXPECT_THAT(refusal([] { Accuracy({.task = "binary", .threshold = 1.5}); }), HasSubstr("threshold = 1.5"));
  EXPECT_THAT(refusal([] { F1Score({.task = "binary", .average = "makro"}); }), HasSubstr("did you mean macro?"));
  EXPECT_THAT(refusal([] { FBetaScore({.task = "binary", .beta = 0}); }), HasSubstr("beta = 0.0"));
  EXPECT_THAT(refusal([] { AUROC({.task = "binary", .average = "micro"}); }), HasSubstr("average = micro"));
  EXPECT_THAT(refusal([] {
                AUROC({.task = "binary", .thresholds = {0.5, 0.2}});
              }),
              HasSubstr("thresholds holds 0.2 after 0.5; let them rise"));
  EXPECT_THAT(refusal([] { AUROC({.task = "binary", .thresholds = 1}); }), HasSubstr("thresholds = 1"));
  EXPECT_THAT(refusal([] { ConfusionMatrix({.task = "binary", .normalize = "rows"}); }), HasSubstr("normalize = rows"));
  EXPECT_THAT(refusal([] { R2Score({.multioutput = "raw"}); }), HasSubstr("did you mean raw_values?"));
  EXPECT_THAT(refusal([] { CosineSimilarity({.reduction = "summ"}); }), HasSubstr("did you mean sum?"));
  EXPECT_THAT(refusal([] { SumMetric({.nan_strategy = "eror"}); }), HasSubstr("did you mean error?"));
  EXPECT_THAT(refusal([] { MeanAbsoluteError({.num_outputs = 0}); }), HasSubstr("num_outputs = 0"));
}

TEST(R2Score, NeedsTwoSamples) {
  R2Score score;
  EXPECT_TRUE(std::isnan(score(torch::ones({1}), torch::ones({1})).item<double>()));
  EXPECT_EQ(refusal([&] { score.compute(); }), "R2Score needs at least two samples, there are 1");
  EXPECT_THAT(refusal([&] {
                score.update(torch::ones({4, 2}), torch::ones({4, 2}));
              }),
              HasSubstr("after batches with outputs of shape []"));
  score.update(torch::zeros({1}), torch::zeros({1}));
  EXPECT_EQ(score.compute().item<double>(), 1);
}

TEST(R2Score, IsThatOfScaledValues) {
  const auto make = making<R2Score>(R2ScoreOptions{});
  const auto target = torch::tensor({0.001, 0.002, 0.003}, torch::kDouble);
  for (const double scale : {1e-60, 1e-9, 1.0, 1e3, 1e60}) {
    EXPECT_NEAR(value_of_any_cut(make, scale * target.flip(0), scale * target).item<double>(), -3, 1e-9) << scale;
  }
  EXPECT_NEAR(value_of_any_cut(make, torch::full({3}, 0.5), target).item<double>(), -372006, 1e-3);
}

TEST(R2Score, OfConstantTargetsIsOneOrNothing) {
  const auto make = making<R2Score>(R2ScoreOptions{});
  const auto flat = torch::full({5}, 0.1, torch::kDouble);  // sums of which are not exact
  EXPECT_EQ(value_of_any_cut(make, flat, flat).item<double>(), 1);
  EXPECT_EQ(value_of_any_cut(make, flat + 1e-9, flat).item<double>(), 0);
  // Beside a number that is large, a spread that its square cannot show.
  const auto far = 1e12 + torch::tensor({0.0, 1e-3}, torch::kDouble);
  EXPECT_EQ(value_of_any_cut(make, far, far).item<double>(), 1);
  EXPECT_NEAR(value_of_any_cut(make, far.flip(0), far).item<double>(), -3, 1e-9);
  const auto weighted = making<R2Score>(R2ScoreOptions{.multioutput = "variance_weighted"});
  EXPECT_EQ(value_of_any_cut(weighted, torch::ones({3, 2}), torch::ones({3, 2})).item<double>(), 1);
}

TEST(R2Score, OfNanIsNan) {
  const auto make = making<R2Score>(R2ScoreOptions{});
  const auto varied = torch::tensor({1.0, 2.0, 3.0}), nans = torch::full({3}, nan), flat = torch::ones({3});
  for (const auto& target : {varied, flat, nans}) {
    EXPECT_TRUE(std::isnan(value_of_any_cut(make, nans, target).item<double>()));
  }
  EXPECT_TRUE(std::isnan(value_of_any_cut(make, varied, nans).item<double>()));
}

TEST(Aggregators, TreatNanAsTheyAreTold) {
  const auto values = torch::tensor({1.0, nan, 3.0});
  MeanMetric warns, lets_through({.nan_strategy = "disable"});
  warns.update(values);
  EXPECT_EQ(warns.compute().item<double>(), 2);
  EXPECT_EQ(warns.warning(), "MeanMetric left out values that are nan");
  lets_through.update(values, torch::tensor({1.0, 1.0, 2.0}));
  EXPECT_TRUE(std::isnan(lets_through.compute().item<double>()));
  MaxMetric refuses({.nan_strategy = "error"});
  EXPECT_THAT(refusal([&] { refuses.update(values); }), HasSubstr("MaxMetric: a value or weight is nan"));
  EXPECT_THAT(refusal([&] { warns.update(values, torch::ones({2})); }),
              HasSubstr("weight is of shape [2] and value of shape [3]"));
  MinMetric none;
  none.update(torch::empty({0}));
  EXPECT_EQ(none.compute().item<double>(), std::numeric_limits<double>::infinity());
}

// --- In a module ---

class WithMetrics : public Module {
 public:
  MetricHolder<Accuracy> accuracy = register_metric("accuracy", three_classes());
  MetricHolder<MeanMetric> empty;
};

TEST(RegisteredMetrics, BelongToTheModule) {
  WithMetrics module;
  module.accuracy.update(torch::tensor({0}), torch::tensor({0}));
  ASSERT_EQ(module.metrics().size(), 1u);
  EXPECT_EQ(module.metrics()[0].first, "accuracy");
  EXPECT_EQ(module.metrics()[0].second->update_count(), 1);
  module.log("outside of a run it does nothing", module.accuracy);
  module.log_dict({{"accuracy", module.accuracy}, {"loss", torch::ones({})}, {"two", 2}});
  EXPECT_EQ(refusal([&] { module.register_metric("accuracy", SumMetric()); }),
            "register_metric(\"accuracy\"): the name is taken by Accuracy");
  EXPECT_NE(refusal([&] { module.register_metric("a.b", SumMetric()); }), "accepted");
  EXPECT_NE(refusal([&] { module.register_metric("", SumMetric()); }), "accepted");
  EXPECT_THAT(refusal([&] { module.empty.update(1.0); }), HasSubstr("give it what register_metric returns"));
}

}  // namespace
}  // namespace troupe
