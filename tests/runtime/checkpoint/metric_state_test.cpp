// Metrics and the log of an unfinished epoch in checkpoints, whole and damaged.
#include "troupe/runtime/checkpoint/metric_state.hpp"

#include "tests/support/refusal.hpp"
#include "troupe/modules/metrics/aggregation.hpp"
#include "troupe/modules/metrics/auroc.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <limits>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class StateOfMetrics : public ::testing::Test {
 protected:
  NamedMetrics named() const { return {{"auroc", auroc}, {"mean", mean}}; }
  Checkpoint saved() {
    auroc->update(torch::tensor({0.2, 0.9, 0.4}), torch::tensor({0, 1, 1}));
    auroc->update(torch::tensor({0.3}), torch::tensor({1}));
    Checkpoint checkpoint;
    append_metric_state(checkpoint, "auroc", auroc->states());
    append_epoch_reductions(checkpoint, {{.name = "loss", .options = {}, .on_step = true, .total = 6, .weight = 4},
                                         {.name = "auroc", .options = {}, .weight = 1, .metric = "auroc"},
                                         {.name = "mean", .options = {}, .weight = 1, .metric = "mean"}});
    return checkpoint;
  }
  // What load_metric_states says of the saved states after `damage`.
  std::string of_states(const std::function<void(Checkpoint&)>& damage) {
    auto checkpoint = saved();
    damage(checkpoint);
    return refusal([&] { load_metric_states(checkpoint, named()); });
  }
  std::string of_log(const std::function<void(Checkpoint&)>& damage) {
    auto checkpoint = saved();
    damage(checkpoint);
    return refusal([&] { load_epoch_reductions(checkpoint); });
  }

  std::shared_ptr<metrics::AUROC> auroc =
      std::make_shared<metrics::AUROC>(metrics::AUROCOptions{.task = metrics::Task::binary});
  std::shared_ptr<metrics::MeanMetric> mean = std::make_shared<metrics::MeanMetric>();
};

TEST_F(StateOfMetrics, ComesBackAsItWas) {
  const auto checkpoint = saved();
  const double value = auroc->compute().item<double>();
  auroc->reset();
  mean->update(3.0);
  EXPECT_THAT(load_metric_states(checkpoint, named()), ElementsAre());
  EXPECT_EQ(auroc->update_count(), 2);
  EXPECT_EQ(auroc->compute().item<double>(), value);
  EXPECT_EQ(mean->compute().item<double>(), 3) << "the checkpoint has nothing of it";
  EXPECT_THAT(load_metric_states(checkpoint, {{"mean", mean}}), ElementsAre("auroc"));
}

TEST_F(StateOfMetrics, OfTheLogComesBackWithoutMetricsThatHaveNone) {
  const auto log = load_epoch_reductions(saved());
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[0].name, "loss");
  EXPECT_TRUE(log[0].on_step);
  EXPECT_EQ(log[0].total, 6);
  EXPECT_EQ(log[0].weight, 4);
  EXPECT_EQ(log[1].metric, "auroc");
  EXPECT_THAT(load_epoch_reductions({}), ElementsAre());
}

TEST_F(StateOfMetrics, ThatIsDamagedIsRefused) {
  EXPECT_THAT(of_states([](Checkpoint& c) { c.metadata["metrics"] = 3; }), HasSubstr("they are no object"));
  EXPECT_THAT(of_states([](Checkpoint& c) { c.metadata["metrics"]["auroc"] = 3; }),
              HasSubstr("state of the metric \"auroc\" is damaged: it is not an object"));
  EXPECT_THAT(of_states([](Checkpoint& c) { c.metadata["metrics"]["auroc"]["updates"] = 0; }),
              HasSubstr("updates is not a count"));
  EXPECT_THAT(of_states([](Checkpoint& c) { c.tensors.erase(c.tensors.begin()); }),
              HasSubstr("lacks \"worst_target\""));
  EXPECT_THAT(of_states([](Checkpoint& c) { c.tensors[4].second = torch::zeros({2}, torch::kLong); }),
              HasSubstr("does not fit: the states are not those of AUROC: preds is Long [2]"));
  EXPECT_THAT(of_states([](Checkpoint& c) {
                c.tensors[0].second = torch::zeros({2, 2}, torch::kLong);
              }),
              HasSubstr("worst_target is Long [2, 2], not Double []"));
}

TEST_F(StateOfMetrics, OfTheLogThatIsDamagedIsRefused) {
  EXPECT_THAT(of_log([](Checkpoint& c) { c.metadata["train_log"] = 3; }), HasSubstr("it is no array"));
  EXPECT_THAT(of_log([](Checkpoint& c) { c.metadata["train_log"][0] = 3; }),
              HasSubstr("an entry of the checkpoint's train_log is damaged: it is not an object"));
  EXPECT_THAT(of_log([](Checkpoint& c) { c.metadata["train_log"][0].erase("name"); }),
              HasSubstr("name is not a text: it is missing"));
  EXPECT_THAT(of_log([](Checkpoint& c) { c.metadata["train_log"][0]["on_step"] = 1; }),
              HasSubstr("on_step is not true or false: 1"));
  EXPECT_THAT(of_log([](Checkpoint& c) { c.metadata["train_log"][0]["reduce_fx"] = "median"; }),
              HasSubstr("reduce_fx = median"));
  EXPECT_THAT(of_log([](Checkpoint& c) { c.metadata["train_log"].push_back(3); }),
              HasSubstr("log.train is not a tensor of F64 [4, 2]"));
  EXPECT_THAT(of_log([](Checkpoint& c) { c.tensors.back().second[0][1] = 0; }),
              HasSubstr("the weight of loss is not above 0"));
}

}  // namespace
}  // namespace troupe
