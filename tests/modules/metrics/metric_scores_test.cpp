// Scores, labels and averages of metrics of classification.
#include "tests/modules/metrics/any_cut.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/modules/metrics/accuracy.hpp"
#include "troupe/modules/metrics/auroc.hpp"
#include "troupe/modules/metrics/average_precision.hpp"
#include "troupe/modules/metrics/confusion_matrix.hpp"
#include "troupe/modules/metrics/f_beta.hpp"

#include <c10/util/StringUtil.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

namespace troupe::metrics {
namespace {

// --- Small batches ---

// The same numbers, laid out so that the operators take them, not the loops for small batches.
torch::Tensor spread(const torch::Tensor& tensor) {
  return torch::stack({tensor, tensor}, -1).select(-1, 0);
}

// Both ways gather the same, of two batches.
void expect_same_states(const Make& make, const torch::Tensor& preds, const torch::Tensor& target) {
  const auto small = make(), other = make();
  for (int i = 0; i < 2; ++i) {
    small->update(preds, target);
    other->update(spread(preds), spread(target));
  }
  const auto ours = small->states().states, theirs = other->states().states;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    SCOPED_TRACE(small->class_name() + ", " + ours[i].name);
    EXPECT_EQ(ours[i].value.scalar_type(), theirs[i].value.scalar_type());
    EXPECT_TRUE(torch::allclose(ours[i].value, theirs[i].value, 0, 0, /*equal_nan=*/true))
        << ours[i].value << "\nnot " << theirs[i].value;
  }
}

TEST(SmallBatches, AreGatheredAsLibTorchsOperatorsDoIt) {
  constexpr int64_t n = 9, classes = 4;
  torch::manual_seed(3);
  const auto classes_target = torch::randint(classes, {n});
  const auto tied = (4 * torch::rand({n, classes})).round() / 4;
  auto with_nan = torch::randn({n, classes});
  with_nan[2][1] = nan;
  with_nan[3][0] = nan;
  for (const auto& ignored : {std::optional<int64_t>(), std::optional<int64_t>(2)}) {
    const AccuracyOptions accuracy{.task = Task::multiclass, .num_classes = classes, .ignore_index = ignored};
    const ConfusionMatrixOptions matrix{.task = Task::multiclass, .num_classes = classes, .ignore_index = ignored};
    const AUROCOptions roc{.task = Task::multiclass, .num_classes = classes, .ignore_index = ignored};
    for (const auto& scores : {torch::randn({n, classes}), tied, tied.to(torch::kDouble), with_nan}) {
      expect_same_states(making<Accuracy>(accuracy), scores, classes_target);
      expect_same_states(making<ConfusionMatrix>(matrix), scores, classes_target);
      expect_same_states(making<AUROC>(roc), scores, classes_target);
    }
    expect_same_states(making<Accuracy>(accuracy), torch::randint(classes, {n}), classes_target);
    expect_same_states(making<ConfusionMatrix>(matrix), torch::randint(classes, {n}), classes_target);
  }
  for (const auto& ignored : {std::optional<int64_t>(), std::optional<int64_t>(0)}) {
    for (const double threshold : {0.5, 0.1, 0.0, 1.0}) {
      for (const bool has_labels : {false, true}) {
        const auto task = has_labels ? Task::multilabel : Task::binary;
        const std::optional<int64_t> labels = has_labels ? std::optional<int64_t>(3) : std::nullopt;
        const auto shape = has_labels ? std::vector<int64_t>{n, 3} : std::vector<int64_t>{n};
        const auto target = torch::randint(2, shape);
        const AccuracyOptions accuracy{
            .task = task, .threshold = threshold, .num_labels = labels, .ignore_index = ignored};
        const ConfusionMatrixOptions matrix{
            .task = task, .threshold = threshold, .num_labels = labels, .ignore_index = ignored};
        const AUROCOptions roc{.task = task, .num_labels = labels, .ignore_index = ignored};
        auto none = torch::rand(shape);
        none.view({-1})[1] = nan;
        // Thresholds are met exactly: 0.1 in the type of the scores.
        for (const auto& scores :
             {torch::randn(shape), torch::full(shape, 0.1F), torch::full(shape, 0.1, torch::kDouble), none}) {
          expect_same_states(making<Accuracy>(accuracy), scores, target);
          expect_same_states(making<ConfusionMatrix>(matrix), scores, target);
          expect_same_states(making<AUROC>(roc), scores, target);
        }
        expect_same_states(making<Accuracy>(accuracy), torch::randint(2, shape), target);
        expect_same_states(making<ConfusionMatrix>(matrix), torch::randint(2, shape), target);
      }
    }
  }
}

// Rows shorter and longer than vectors, and than the 64 labels that are looked at together; more samples than are
// treated at a time. The highest score stands at any place, often at several.
TEST(SmallBatches, OfAnyNumberOfClassesAreGatheredAsLibTorchsOperatorsDoIt) {
  constexpr int64_t n = 300;
  torch::manual_seed(4);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const int64_t classes : {2, 3, 4, 5, 7, 8, 10, 63, 64, 65, 66, 67, 68, 100, 129, 200}) {
    SCOPED_TRACE(classes);
    const auto target = torch::randint(classes, {n});
    const auto free = torch::randn({n, classes}), tied = (free * 2).round() / 2;  // zeros of both signs
    auto special = tied.clone();
    special[0].fill_(-infinity);
    special[1].fill_(infinity);
    special[2][classes - 1] = infinity;
    special[n - 1].fill_(-1);
    auto with_nan = free.clone();
    with_nan[5][classes - 1] = nan;
    with_nan[270][0] = nan;
    with_nan[271].fill_(nan);
    for (const auto& type : {torch::kFloat, torch::kDouble}) {
      for (const auto& scores : {free, tied, special, with_nan}) {
        for (const auto& ignored : {std::optional<int64_t>(), std::optional<int64_t>(1)}) {
          expect_same_states(making<ConfusionMatrix>(ConfusionMatrixOptions{
                                 .task = Task::multiclass, .num_classes = classes, .ignore_index = ignored}),
                             scores.to(type), target);
        }
        expect_same_states(making<Accuracy>(AccuracyOptions{.task = Task::multiclass, .num_classes = classes}),
                           scores.to(type), target);
        expect_same_states(making<AUROC>(AUROCOptions{.task = Task::multiclass, .num_classes = classes}),
                           scores.to(type), target);
      }
    }
  }
}

TEST(SmallBatches, RefuseTheFarthestLabels) {
  const auto numbers = std::numeric_limits<int64_t>();
  for (const int64_t label : {numbers.min(), int64_t{-1}, int64_t{3}, numbers.max()}) {
    const auto labels = torch::tensor({int64_t{0}, label}), fine = torch::tensor({0, 1});
    // The greatest one is no number of double, in which it is told.
    const auto refused = testing::HasSubstr(label == numbers.max() ? std::string(" holds 9")
                                                                   : c10::str(" holds ", label, "; labels are 0 to 2"));
    Accuracy accuracy({.task = Task::multiclass, .num_classes = 3});
    AUROC roc({.task = Task::multiclass, .num_classes = 3});
    EXPECT_THAT(refusal([&] { accuracy.update(torch::rand({2, 3}), labels); }), refused);
    EXPECT_THAT(refusal([&] { accuracy.update(labels, fine); }), refused);
    EXPECT_THAT(refusal([&] { roc.update(torch::rand({2, 3}), labels); }), refused);
    Accuracy ignoring({.task = Task::multiclass, .num_classes = 3, .ignore_index = label});
    ignoring.update(torch::rand({2, 3}), labels);
    EXPECT_EQ(ignoring.update_count(), 1);
  }
}

TEST(SmallBatches, LeaveEverythingAsItWasIfALabelDoesNotBelongThere) {
  Accuracy accuracy({.task = Task::multiclass, .num_classes = 3});
  accuracy.update(torch::rand({4, 3}), torch::tensor({0, 1, 2, 0}));
  std::vector<torch::Tensor> before;
  for (const auto& state : accuracy.states().states) before.push_back(state.value.clone());
  EXPECT_EQ(refusal([&] {
              accuracy.update(torch::full({2, 3}, 7.0F), torch::tensor({0, 3}));
            }),
            "Accuracy: target holds 3; labels are 0 to 2");
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(before[i].equal(accuracy.states().states[i].value));
}

TEST(SmallBatches, AreNotKeptByReference) {
  AUROC roc({.task = Task::binary});
  auto scores = torch::tensor({0.1F, 0.9F}), target = torch::tensor({0, 1});
  roc.update(scores, target);
  scores.fill_(0.5);
  target.zero_();
  EXPECT_EQ(roc.compute().item<double>(), 1);
}

// --- Scores ---

TEST(Scores, AreLogitsOrProbabilitiesForAnyCutOfTheData) {
  const auto scores = torch::tensor({0.9F, 2.0F, 0.2F, 0.8F}), target = torch::tensor({0, 1, 0, 1});
  // As logits all four are a yes.
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(AccuracyOptions{.task = Task::binary}), scores, target).item<double>(),
            0.5);
  EXPECT_EQ(
      value_of_any_cut(making<Recall>(PrecisionRecallOptions{.task = Task::binary}), scores, target).item<double>(), 1);
  EXPECT_TRUE(value_of_any_cut(making<ConfusionMatrix>(ConfusionMatrixOptions{.task = Task::binary}), scores, target)
                  .equal(torch::tensor({{0, 2}, {0, 2}})));
  EXPECT_EQ(value_of_any_cut(making<AUROC>(AUROCOptions{.task = Task::binary}), scores, target).item<double>(), 0.75);
  // Between 0.5 and 0.71 = sigmoid(0.9) lie 0.55 and 0.69.
  EXPECT_EQ(value_of_any_cut(making<AUROC>(AUROCOptions{.task = Task::binary, .thresholds = {0.5, 0.6, 0.7, 0.8}}),
                             scores, target)
                .item<double>(),
            0.75);
  // Without the 2 they are probabilities.
  const auto shares = torch::tensor({0.9F, 0.7F, 0.2F, 0.8F});
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(AccuracyOptions{.task = Task::binary}), shares, target).item<double>(),
            0.75);
}

TEST(Scores, OfLabelsAndClassesToo) {
  torch::manual_seed(1);
  auto scores = torch::rand({9, 3});
  scores[4][1] = -3;
  const auto bits = torch::randint(0, 2, {9, 3}), classes = torch::arange(9) % 3;
  for (const auto average : {Average::micro, Average::macro, Average::none}) {
    value_of_any_cut(
        making<F1Score>(PrecisionRecallOptions{.task = Task::multilabel, .num_labels = 3, .average = average}), scores,
        bits);
    value_of_any_cut(making<AveragePrecision>(
                         AveragePrecisionOptions{.task = Task::multilabel, .num_labels = 3, .average = average}),
                     scores, bits);
  }
  value_of_any_cut(making<ConfusionMatrix>(ConfusionMatrixOptions{.task = Task::multilabel, .num_labels = 3}), scores,
                   bits);
  for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
    const auto make = making<AUROC>(AUROCOptions{.task = Task::multiclass, .thresholds = thresholds, .num_classes = 3});
    const auto value = value_of_any_cut(make, scores, classes);
    EXPECT_NEAR(value.item<double>(), compute_in_parts(make, scores.softmax(1), classes, 9).item<double>(), 1e-12);
  }
}

TEST(Scores, WhoseTargetIsIgnoredHaveNoSay) {
  const auto scores = torch::tensor({0.2F, 7.0F, 0.8F, static_cast<float>(nan)});
  const auto target = torch::tensor({0, -1, 1, -1});
  const auto accuracy = making<Accuracy>(AccuracyOptions{.task = Task::binary, .ignore_index = -1});
  EXPECT_EQ(value_of_any_cut(accuracy, scores, target).item<double>(), 1);
  for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
    const auto make = making<AUROC>(AUROCOptions{.task = Task::binary, .thresholds = thresholds, .ignore_index = -1});
    EXPECT_EQ(value_of_any_cut(make, scores, target).item<double>(), 1);
  }
}

TEST(Scores, ThatAreNanMakeTheValueNan) {
  const auto nans = torch::full({4}, nan), some = torch::tensor({0.9, 0.1, nan, 0.8}),
             target = torch::tensor({0, 0, 0, 1});
  for (const auto& scores : {nans, some}) {
    const auto logits = torch::stack({-scores, scores}, 1);
    for (const auto average : {Average::micro, Average::macro, Average::weighted}) {
      const AccuracyOptions options{.task = Task::multiclass, .num_classes = 2, .average = average};
      EXPECT_TRUE(std::isnan(value_of_any_cut(making<Accuracy>(options), logits, target).item<double>()));
    }
    const AccuracyOptions binary{.task = Task::binary},
        best_two{.task = Task::multiclass, .num_classes = 2, .top_k = 2};
    EXPECT_TRUE(std::isnan(value_of_any_cut(making<Accuracy>(binary), scores, target).item<double>()));
    EXPECT_TRUE(std::isnan(value_of_any_cut(making<Accuracy>(best_two), logits, target).item<double>()));
    for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
      const AUROCOptions curve{.task = Task::binary, .thresholds = thresholds};
      const AveragePrecisionOptions classes{.task = Task::multiclass, .thresholds = thresholds, .num_classes = 2};
      EXPECT_TRUE(std::isnan(value_of_any_cut(making<AUROC>(curve), scores, target).item<double>()));
      EXPECT_TRUE(std::isnan(value_of_any_cut(making<AveragePrecision>(classes), logits, target).item<double>()));
    }
  }
  Accuracy accuracy({.task = Task::binary});
  accuracy.update(torch::tensor({0.9}), torch::tensor({1}));
  EXPECT_EQ(accuracy.warning(), "");
  accuracy.update(some, target);
  EXPECT_EQ(accuracy.warning(), "Accuracy is nan, since predictions are");
  ConfusionMatrix counts({.task = Task::binary});
  counts.update(some, target);
  EXPECT_EQ(refusal([&] { counts.compute(); }), "ConfusionMatrix: preds holds nan, and a count cannot say so");
}

TEST(Scores, OneNanTurnsNoProbabilityIntoALogit) {
  AUROC auroc({.task = Task::multiclass, .num_classes = 2, .average = Average::none, .ignore_index = -1});
  const auto scores = torch::tensor({{0.9F, 0.1F}, {0.2F, 0.8F}, {static_cast<float>(nan), 0.0F}});
  auroc.update(scores, torch::tensor({0, 1, -1}));
  EXPECT_TRUE(auroc.compute().equal(torch::ones({2}, torch::kDouble)));
  EXPECT_EQ(auroc.states().states[2].value.item<float>(), 0.1F) << "the lowest score";
}

TEST(Curves, RankTheLogitsOfAConfidentModel) {
  const auto logits = torch::tensor({18.0F, 19.0F, 20.0F, 17.5F}), target = torch::tensor({0, 1, 1, 0});
  const AUROCOptions binary{.task = Task::binary};
  EXPECT_EQ(value_of_any_cut(making<AUROC>(binary), logits, target).item<double>(), 1);
  EXPECT_EQ(value_of_any_cut(making<AveragePrecision>(AveragePrecisionOptions{.task = Task::binary}), logits, target)
                .item<double>(),
            1);
  const AUROCOptions two{.task = Task::multiclass, .num_classes = 2}, three{.task = Task::multiclass, .num_classes = 3};
  const auto of_two = torch::tensor({{0.0F, 30.0F}, {0.0F, 40.0F}, {0.0F, 900.0F}, {0.0F, -5.0F}});
  EXPECT_EQ(value_of_any_cut(making<AUROC>(two), of_two, torch::tensor({0, 1, 1, 0})).item<double>(), 1);
  // The odds of class 1 rise, those of class 2 fall, and equal ones are equal in whatever order the others come.
  const auto of_three =
      torch::tensor({{0.0F, 30.0F, 1.0F}, {1.0F, 50.0F, 1.0F}, {1.0F, 1.0F, 0.0F}, {0.0F, 1.0F, 1.0F}});
  const AUROCOptions each{.task = Task::multiclass, .num_classes = 3, .average = Average::none};
  EXPECT_EQ(value_of_any_cut(making<AUROC>(each), of_three, torch::tensor({2, 1, 2, 0}))[1].item<double>(), 1);
  EXPECT_NEAR(value_of_any_cut(making<AUROC>(each), of_three, torch::tensor({0, 0, 1, 2}))[1].item<double>(), 0.5 / 3,
              1e-12);
  // Two classes of equal logits: a half, which is at least the threshold 0.5.
  const AUROCOptions at_half{
      .task = Task::multiclass, .thresholds = {0.5, 0.75}, .num_classes = 2, .average = Average::none};
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
  const PrecisionRecallOptions options{
      .task = Task::multiclass, .num_classes = 3, .average = Average::macro, .ignore_index = 2};
  EXPECT_EQ(value_of_any_cut(making<Recall>(options), preds, target).item<double>(), 0.75);
  EXPECT_EQ(value_of_any_cut(making<metrics::Precision>(options), preds, target).item<double>(), 1);
  EXPECT_NEAR(value_of_any_cut(making<F1Score>(options), preds, target).item<double>(), 0.8333333, 1e-6);
  const AccuracyOptions accuracy{
      .task = Task::multiclass, .num_classes = 3, .average = Average::macro, .ignore_index = 2};
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(accuracy), preds, target).item<double>(), 0.75);
  const auto scores = torch::one_hot(preds, 3).to(torch::kFloat);
  const AUROCOptions curve{.task = Task::multiclass, .num_classes = 3, .ignore_index = 2};
  // Class 0 against 1: 0.75; class 1 against 0: 1; class 2 has no yes.
  EXPECT_EQ(value_of_any_cut(making<AUROC>(curve), scores, target).item<double>(), 0.875);
}

TEST(Averages, LeaveOutLabelsWithoutAValue) {
  const auto scores = torch::tensor({{0.9F, 0.4F}, {0.1F, 0.3F}});
  const auto no_yes = torch::tensor({{1, 0}, {0, 0}}), all_ignored = torch::tensor({{1, -1}, {0, -1}});
  for (const auto& target : {no_yes, all_ignored}) {
    for (const auto& thresholds : {Thresholds(), Thresholds(5)}) {
      const AUROCOptions roc{.task = Task::multilabel, .thresholds = thresholds, .num_labels = 2, .ignore_index = -1};
      const AveragePrecisionOptions ap{
          .task = Task::multilabel, .thresholds = thresholds, .num_labels = 2, .ignore_index = -1};
      EXPECT_EQ(value_of_any_cut(making<AUROC>(roc), scores, target).item<double>(), 1);
      EXPECT_EQ(value_of_any_cut(making<AveragePrecision>(ap), scores, target).item<double>(), 1);
    }
  }
  const AccuracyOptions options{
      .task = Task::multilabel, .num_labels = 2, .average = Average::macro, .ignore_index = -1};
  EXPECT_EQ(value_of_any_cut(making<Accuracy>(options), scores, all_ignored).item<double>(), 1);
}

}  // namespace
}  // namespace troupe::metrics
