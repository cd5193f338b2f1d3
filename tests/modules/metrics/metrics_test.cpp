// What metrics keep, alone, as replicas and in a module. Their values are in tests/parity.
#include "tests/modules/metrics/any_cut.hpp"
#include "tests/support/refusal.hpp"
#include "troupe/modules/metrics/accuracy.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/auroc.hpp"
#include "troupe/modules/metrics/cosine_similarity.hpp"
#include "troupe/modules/metrics/mean_error.hpp"
#include "troupe/modules/metrics/r2_score.hpp"
#include "troupe/modules/module.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>

namespace troupe::metrics {
namespace {

using ::testing::HasSubstr;

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
  AUROC auroc({.task = Task::binary});
  auroc.update(preds, torch::ones({3}, torch::kLong));
  for (const auto& state : auroc.states().states) EXPECT_FALSE(state.value.requires_grad()) << state.name;
}

TEST(Metric, KeepsItsOwnCopyOfScores) {
  AUROC auroc({.task = Task::binary});
  auto preds = torch::tensor({0.1, 0.2, 0.8});
  auto target = torch::tensor({0, 0, 1});
  auroc.update(preds, target);
  preds.fill_(0.5);
  target.fill_(0);
  EXPECT_EQ(auroc.compute().item<double>(), 1);
}

TEST(Metric, StatesThatSomebodyHoldsOutliveTheReset) {
  AUROC auroc({.task = Task::binary});
  const auto update = [&](double score) { auroc.update(torch::full({3}, score), torch::tensor({0, 1, 1})); };
  update(0.25);
  const auto held = auroc.states();
  auroc.reset();
  update(0.75);
  EXPECT_TRUE(held.states[4].value.equal(torch::full({3}, 0.25))) << held.states[4].value;
  // Memory that nobody holds is written again.
  auroc.reset();
  update(0.5);
  EXPECT_TRUE(auroc.states().states[4].value.equal(torch::full({3}, 0.5)));
  EXPECT_EQ(auroc.compute().item<double>(), 0.5);
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
  CosineSimilarity a({.reduction = Reduction::none}), b({.reduction = Reduction::none});
  a.update(torch::tensor({{1.0, 0.0}}), torch::tensor({{1.0, 0.0}}));
  b.update(torch::tensor({{1.0, 0.0}}), torch::tensor({{-1.0, 0.0}}));
  CosineSimilarity all({.reduction = Reduction::none});
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
  Accuracy four({.task = Task::multiclass, .num_classes = 4});
  EXPECT_THAT(refusal([&] { four.load_states(accuracy.states()); }), HasSubstr("tp is Long [3], not Long [4]"));
  EXPECT_THAT(refusal([&] { merged({sum.states(), min.states()}); }), HasSubstr("state 1 is sum_value (sum) in one"));
  EXPECT_NE(refusal([] { merged(std::vector<MetricStates>{}); }), "accepted");
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
}  // namespace troupe::metrics
