// What a batch counts in means and windows, and how many steps a run will take.
#include "tests/support/one_weight.hpp"

#include <gmock/gmock.h>

#include <optional>

namespace troupe {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// --- Sizes of batches ---

// Samples of a tensor with `rows` rows, such as a picture's boxes, and a number that the loss is made of.
class Boxes : public Dataset {
 public:
  Boxes(std::vector<int64_t> rows, std::vector<float> values) : rows_(std::move(rows)), values_(std::move(values)) {}
  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  Batch get(int64_t index) override {
    const auto i = static_cast<std::size_t>(index);
    return {torch::ones({rows_[i], 4}), torch::full({2}, values_[i])};
  }

 private:
  std::vector<int64_t> rows_;
  std::vector<float> values_;
};

class OfBoxes : public OneWeight {
 public:
  using OneWeight::OneWeight;
  StepOutput training_step(const Batch& batch, int64_t) override {
    if (returns_nothing) return {};
    const auto loss = (w * batch[1]).mean();
    if (logs) log("l", batch[1].mean(), {.on_step = false, .on_epoch = true});
    return loss;
  }
  StepOutput validation_step(const Batch& batch, int64_t) override {
    log("v", batch[1].mean());
    log("largest", batch[1].max(), {.reduce_fx = Reduce::max});
    return {};
  }
  bool returns_nothing = false, logs = true;
};

using Join = std::function<Batch(std::vector<Batch>)>;

// As a collate function of boxes does it: rows are joined, the rest is stacked.
Batch joined(const std::vector<Batch>& samples) {
  std::vector<torch::Tensor> boxes, values;
  for (const auto& sample : samples) {
    boxes.push_back(sample[0]);
    values.push_back(sample[1].mean());
  }
  return {torch::cat(boxes), torch::stack(values)};
}

DataLoader boxes(std::vector<int64_t> rows, std::vector<float> values, int64_t batch_size = 1, Join join = joined) {
  return {std::make_shared<Boxes>(std::move(rows), std::move(values)),
          {.batch_size = batch_size, .collate = std::move(join)}};
}

TEST(ABatch, WithoutARowInItsFirstTensorCountsItsSamples) {
  for (const auto weighting : {GradWeighting::samples, GradWeighting::batches}) {
    const TempDir dir;
    auto options = one_epoch(dir);
    options.accumulate_grad_weighting = weighting;
    Trainer trainer(options);
    const auto model = trainer.fit(std::make_shared<OfBoxes>(OneWeightOptions{0.1}), boxes({3, 0, 3, 0}, {1, 1, 1, 1}));
    EXPECT_NEAR(model->weight(), 0.6, 1e-6);
  }
}

TEST(ABatch, CountsItsSamplesInMeansAndWindowsWhateverItsFirstTensorHas) {
  for (const int64_t devices : {1, 2}) {
    for (const auto strategy : {Strategy::ddp, Strategy::zero}) {
      const TempDir dir;
      auto options = one_epoch(dir);
      options.accumulate_grad_batches = 2;
      options.devices = devices;
      options.strategy = strategy;
      Trainer trainer(options);
      const auto data = devices == 1 ? boxes({7, 0}, {1, 2}) : boxes({7, 3, 0, 3}, {1, 1, 2, 2});
      const auto model = trainer.fit<OfBoxes>({}, data, data);
      EXPECT_NEAR(model->weight(), 1 - 1.5, 1e-6);
      EXPECT_NEAR(trainer.callback_metrics().at("l"), 1.5, 1e-6);
      EXPECT_NEAR(trainer.callback_metrics().at("v"), 1.5, 1e-6);
      EXPECT_EQ(trainer.callback_metrics().at("largest"), 2);
    }
  }
}

// What a fit says, and throws.
std::pair<std::string, std::string> said(const DataLoader& data,
                                         std::shared_ptr<OfBoxes> model = std::make_shared<OfBoxes>(),
                                         TrainerOptions changed = {}) {
  const TempDir dir;
  auto options = one_epoch(dir);
  options.accumulate_grad_batches = changed.accumulate_grad_batches;
  options.accumulate_grad_weighting = changed.accumulate_grad_weighting;
  Trainer trainer(options);
  testing::internal::CaptureStderr();
  const auto error = error_of([&] { trainer.fit(std::move(model), data); });
  return {testing::internal::GetCapturedStderr(), error};
}

TEST(ABatch, WhoseSizeIsNotClearIsNamedOnceWhereItMatters) {
  EXPECT_THAT(said(boxes({7, 3, 2}, {1, 2, 3})).first,
              AllOf(HasSubstr("has 3 rows, its loader made it of 1 samples"), HasSubstr("it counts as 1"),
                    HasSubstr("Batch::set_size")));
  // Equal in any reading.
  EXPECT_THAT(said(boxes({7, 7}, {1, 2})).first, Not(HasSubstr("not clear")));
  EXPECT_THAT(said(boxes({2, 2, 2}, {1, 2, 3}, 2)).first, Not(HasSubstr("not clear")));
  const auto says = [](const std::vector<Batch>& samples) {
    Batch batch = joined(samples);
    batch.set_size(static_cast<int64_t>(samples.size()));
    return batch;
  };
  EXPECT_THAT(said(boxes({7, 3}, {1, 2}, 1, says)).first, Not(HasSubstr("not clear")));
}

TEST(ABatch, OfNoSamplesMustNotGiveALoss) {
  const auto empty = [](const std::vector<Batch>& samples) {
    Batch batch = joined(samples);
    batch.set_size(0);
    return batch;
  };
  const auto data = boxes({1, 1}, {1, 1}, 1, empty);
  const auto model = [](bool returns_nothing, bool logs) {
    auto made = std::make_shared<OfBoxes>();
    made->returns_nothing = returns_nothing;
    made->logs = logs;
    return made;
  };
  for (const int64_t window : {1, 2}) {
    const TrainerOptions options{.accumulate_grad_batches = window};
    EXPECT_THAT(said(data, model(false, true), options).second, HasSubstr("weigh nothing in the epoch's mean"));
    EXPECT_THAT(said(data, model(false, false), options).second, HasSubstr("its loss would weigh nothing"));
    EXPECT_EQ(said(data, model(true, false), options).second, "");
  }
  EXPECT_EQ(said(data, model(false, false), {.accumulate_grad_weighting = GradWeighting::batches}).second, "");
}

// --- How many steps ---

class AsksForAStep : public OneWeight {
 public:
  explicit AsksForAStep(OneWeightOptions options = {}) : OneWeight(options) {
    v = register_parameter("v", torch::ones({1}));
  }
  StepOutput training_step(const Batch& batch, int64_t) override { return (w * batch[0] + v).mean(); }
  StepOutput training_step(const Batch& batch, int64_t, int64_t) override { return (w * batch[0] + v).mean(); }
  StepOutput training_step(const Batch& part, int64_t, const StepOutput&) override {
    return {{"loss", (w * part[0] + v).mean()}, {"hidden", torch::zeros({1})}};
  }
  Optimizers configure_optimizers() override {
    while_configuring = trainer().estimated_stepping_batches();
    of_two = trainer().estimated_stepping_batches(2);
    const auto one = std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{w}, 0.01);
    const auto two = std::make_shared<torch::optim::SGD>(std::vector<torch::Tensor>{v}, 0.01);
    if (count == 1) return one;
    if (frequency > 0) return {{.optimizer = one, .frequency = frequency}, {.optimizer = two, .frequency = 1}};
    return {one, two};
  }
  void on_train_start() override { at_start = trainer().estimated_stepping_batches(); }
  void on_before_optimizer_step(torch::optim::Optimizer&, int64_t index) override { ++steps[index]; }

  torch::Tensor v;
  int count = 1;
  int64_t frequency = 0;
  std::optional<int64_t> while_configuring, of_two, at_start;
  int64_t steps[2] = {0, 0};
};

// 8 batches in each of 2 epochs.
std::shared_ptr<AsksForAStep> asked(TrainerOptions changed,
                                    std::shared_ptr<AsksForAStep> model = std::make_shared<AsksForAStep>()) {
  const TempDir dir;
  auto options = one_epoch(dir);
  options.max_epochs = 2;
  options.max_steps = changed.max_steps;
  options.accumulate_grad_batches = changed.accumulate_grad_batches;
  options.callbacks = changed.callbacks;
  Trainer(options).fit(std::shared_ptr<AsksForAStep>(model), numbers(std::vector<float>(8, 1)));
  return model;
}

TEST(EstimatedSteppingBatches, AreTheStepsOfAnOptimizerWithAScheduleOfAccumulation) {
  const auto with = [](std::map<int64_t, int64_t> scheduling) {
    return TrainerOptions{.callbacks = {std::make_shared<GradientAccumulationScheduler>(std::move(scheduling))}};
  };
  for (const auto& options : {with({{0, 4}}), with({{0, 3}, {1, 5}}), with({{1, 8}}), with({{0, 2}, {7, 1}}),
                              TrainerOptions{.accumulate_grad_batches = 3}, TrainerOptions{.max_steps = 5}}) {
    const auto model = asked(options);
    EXPECT_EQ(model->while_configuring, model->steps[0]);
    EXPECT_EQ(model->at_start, model->steps[0]);
  }
  EXPECT_EQ(asked(with({{0, 4}}))->while_configuring, 4);
}

TEST(EstimatedSteppingBatches, AreThoseOfEachOfSeveralOptimizers) {
  const auto two = [](int64_t frequency = 0) {
    auto model = std::make_shared<AsksForAStep>();
    model->count = 2;
    model->frequency = frequency;
    return model;
  };
  auto model = asked({}, two());
  EXPECT_EQ(model->while_configuring, 16);
  EXPECT_EQ(model->at_start, 16);
  EXPECT_EQ(model->steps[0], 16);
  EXPECT_EQ(model->steps[1], 16);
  model = asked({.max_steps = 10}, two());
  EXPECT_EQ(model->of_two, 5);
  EXPECT_EQ(model->at_start, 5);
  EXPECT_EQ(model->steps[0], 5);
  EXPECT_EQ(model->steps[1], 5);
  model = asked({}, two(/*frequency=*/3));
  EXPECT_EQ(model->at_start, 16);
  EXPECT_EQ(model->steps[0] + model->steps[1], 16);
  model = asked({.max_steps = 10}, two(/*frequency=*/3));
  EXPECT_EQ(model->at_start, 10);
  EXPECT_EQ(model->steps[0] + model->steps[1], 10);
}

TEST(EstimatedSteppingBatches, AreUnknownWherePartsOfSequencesAreSteps) {
  const auto model = std::make_shared<AsksForAStep>();
  model->truncated_bptt_steps = 2;
  const TempDir dir;
  auto options = one_epoch(dir);
  const DataLoader sequences(std::make_shared<TensorDataset>(torch::ones({4, 6})), {.batch_size = 1});
  Trainer trainer(options);
  trainer.fit(std::shared_ptr<AsksForAStep>(model), sequences);
  EXPECT_EQ(trainer.global_step(), 12);
  EXPECT_EQ(model->while_configuring, std::nullopt);
  options.max_steps = 7;
  Trainer(options).fit(std::shared_ptr<AsksForAStep>(model), sequences);
  EXPECT_EQ(model->while_configuring, 7);
}

}  // namespace
}  // namespace troupe
