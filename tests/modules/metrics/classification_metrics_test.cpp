// What metrics are told that their options or their data do not fit.
#include "tests/modules/metrics/any_cut.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/modules/metrics/accuracy.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/auroc.hpp"
#include "troupe/modules/metrics/confusion_matrix.hpp"
#include "troupe/modules/metrics/cosine_similarity.hpp"
#include "troupe/modules/metrics/f_beta.hpp"
#include "troupe/modules/metrics/mean_error.hpp"
#include "troupe/modules/metrics/perplexity.hpp"
#include "troupe/modules/metrics/r2_score.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

namespace troupe::metrics {
namespace {

using ::testing::HasSubstr;

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
  AUROC binary({.task = Task::binary, .ignore_index = -1});
  EXPECT_EQ(refusal([&] {
              binary.update(torch::rand({3}), torch::tensor({0, -1, 2}));
            }),
            "AUROC: target holds 2; labels are 0 and 1, or ignore_index = -1");
  F1Score multilabel({.task = Task::multilabel, .num_labels = 2});
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
  ConfusionMatrix labels({.task = Task::multilabel, .num_labels = 4});
  EXPECT_THAT(refusal([&] {
                labels.update(torch::rand({8, 3}), torch::zeros({8, 3}, torch::kLong));
              }),
              HasSubstr("with num_labels = 4 it must be (N, 4, ...)"));
  AUROC auroc({.task = Task::multiclass, .num_classes = 3});
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

// A task has no default: options without one do not compile.
static_assert(!std::is_default_constructible_v<AccuracyOptions>);
static_assert(!std::is_default_constructible_v<AUROCOptions>);

TEST(Classification, NamesTheOptionThatCannotBe) {
  EXPECT_EQ(refusal([] { Accuracy({.task = Task::multiclass}); }), "Accuracy: task = multiclass needs num_classes");
  EXPECT_EQ(refusal([] { Accuracy({.task = Task::binary, .num_labels = 2}); }),
            "Accuracy: num_labels has no meaning for task = binary");
  EXPECT_EQ(refusal([] { Accuracy({.task = Task::multiclass, .num_classes = 1}); }),
            "Accuracy: num_classes = 1; use at least 2");
  EXPECT_EQ(refusal([] { Accuracy({.task = Task::multiclass, .num_classes = 3, .top_k = 4}); }),
            "Accuracy: top_k = 4 is more than num_classes = 3");
  EXPECT_THAT(refusal([] { Accuracy({.task = Task::binary, .threshold = 1.5}); }), HasSubstr("threshold = 1.5"));
  EXPECT_THAT(refusal([] { FBetaScore({.task = Task::binary, .beta = 0}); }), HasSubstr("beta = 0.0"));
  EXPECT_EQ(refusal([] { AUROC({.task = Task::binary, .average = Average::micro}); }),
            "AUROC: average = micro has no meaning for task = binary; use macro, weighted or none");
  EXPECT_EQ(refusal([] { F1Score({.task = Task::multilabel, .num_labels = 2, .top_k = 2}); }),
            "F1Score: top_k = 2 has no meaning for task = multilabel");
  EXPECT_THAT(refusal([] {
                AUROC({.task = Task::binary, .thresholds = {0.5, 0.2}});
              }),
              HasSubstr("thresholds holds 0.2 after 0.5; let them rise"));
  EXPECT_THAT(refusal([] { AUROC({.task = Task::binary, .thresholds = 1}); }), HasSubstr("thresholds = 1"));
  EXPECT_THAT(refusal([] { MeanAbsoluteError({.num_outputs = 0}); }), HasSubstr("num_outputs = 0"));
}

}  // namespace
}  // namespace troupe::metrics
