// What the Trainer's options do in a run.
#include "tests/support/lines.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using ::testing::HasSubstr;

// CountsBatches its batches.
class CountsBatches : public Line {
 public:
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    ++trained;
    first_x.push_back(batch[0][0].item<float>());
    return Line::training_step(batch, batch_idx);
  }
  StepOutput validation_step(const Batch& batch, int64_t batch_idx) override {
    ++(trainer().sanity_checking() ? sane : validated);
    return Line::validation_step(batch, batch_idx);
  }
  int trained = 0, validated = 0, sane = 0;
  std::vector<float> first_x;
};

struct Result {
  std::shared_ptr<CountsBatches> module;
  int64_t global_step = 0;
  int64_t epoch = 0;
  std::string reason;
};

Result fit_with(const std::function<void(TrainerOptions&)>& change, bool shuffle = false) {
  const TempDir dir;
  auto options = quiet(dir);
  options.enable_checkpointing = options.logger = false;
  change(options);
  Trainer trainer(options);
  Result out;
  out.module = trainer.fit<CountsBatches>({}, points(16, shuffle), points(16, false));
  out.global_step = trainer.global_step();
  out.epoch = trainer.current_epoch();
  out.reason = trainer.stop_reason();
  return out;
}

TEST(TrainerOptionsInARun, LimitsAreCountsOrFractions) {
  const auto counted = fit_with([](auto& o) { o.limit_train_batches = 3, o.limit_val_batches = 1; });
  EXPECT_EQ(counted.module->trained, 6);
  EXPECT_EQ(counted.module->validated, 2);
  const auto share = fit_with([](auto& o) { o.limit_train_batches = 0.5, o.limit_val_batches = 0.25; });
  EXPECT_EQ(share.module->trained, 4);
  EXPECT_EQ(share.module->validated, 2);
  EXPECT_EQ(fit_with([](auto& o) { o.limit_val_batches = 0; }).module->validated, 0);
}

TEST(TrainerOptionsInARun, TheSanityCheckRunsAsManyBatchesAsToldAndLeavesNoMetric) {
  EXPECT_EQ(fit_with([](auto&) {}).module->sane, 2);
  EXPECT_EQ(fit_with([](auto& o) { o.num_sanity_val_steps = -1; }).module->sane, 4);
  EXPECT_EQ(fit_with([](auto& o) { o.num_sanity_val_steps = 0; }).module->sane, 0);
}

TEST(TrainerOptionsInARun, MaxStepsEndsWithinAnEpoch) {
  const auto run = fit_with([](auto& o) { o.max_steps = 6, o.max_epochs = std::nullopt; });
  EXPECT_EQ(run.global_step, 6);
  EXPECT_EQ(run.module->trained, 6);
}

TEST(TrainerOptionsInARun, ValidationAndLogsGoByTime) {
  struct Timed : Line {
    using Line::Line;
    StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
      if (trainer().logs_this_batch()) ++logged;
      return Line::training_step(batch, batch_idx);
    }
    void on_validation_start() override {
      const auto& at = trainer().progress();
      if (trainer().sanity_checking()) return;
      ++validated;
      trained_between &= at.total_batches > trained;
      trained = at.total_batches;
      if (validated >= 3 && logged >= 3) trainer().request_stop("enough");
    }
    int64_t logged = 0, validated = 0, trained = 0;
    bool trained_between = true;
  };
  for (const int64_t devices : {1, 2}) {
    const TempDir dir;
    auto options = quiet(dir);
    options.devices = devices;
    options.max_epochs = -1;
    options.val_check_interval = std::chrono::milliseconds(1);
    options.log_every = "1ms";
    Trainer trainer(options);
    const auto module = trainer.fit<Timed>({}, points(64), points(16));
    EXPECT_GE(module->validated, 3);
    EXPECT_GE(module->logged, 3);
    EXPECT_TRUE(module->trained_between);
    EXPECT_EQ(trainer.stop_reason(), "enough");
  }
}

TEST(TrainerOptionsInARun, MinStepsHoldAStopBack) {
  class Stops : public CountsBatches {
   public:
    using CountsBatches::CountsBatches;
    void on_train_start() override { trainer().request_stop("at once"); }
  };
  const TempDir dir;
  auto options = quiet(dir);
  options.min_steps = 5;
  options.max_epochs = 100;
  Trainer trainer(options);
  trainer.fit<Stops>({}, points());
  EXPECT_EQ(trainer.global_step(), 5);
}

TEST(TrainerOptionsInARun, OverfitTakesTheSameBatchesUnshuffled) {
  const auto run = fit_with([](auto& o) { o.overfit_batches = 2; }, /*shuffle=*/true);
  EXPECT_EQ(run.module->trained, 4);
  EXPECT_EQ(run.module->first_x[0], run.module->first_x[2]);
  EXPECT_EQ(run.module->first_x[0], -1.0f);  // the first sample
}

TEST(TrainerOptionsInARun, FastDevRunIsOneBatchOfEach) {
  const auto run = fit_with([](auto& o) { o.fast_dev_run = 1; });
  EXPECT_EQ(run.module->trained, 1);
  EXPECT_EQ(run.module->validated, 1);
  EXPECT_EQ(run.module->sane, 0);
}

TEST(TrainerOptionsInARun, ShuffleGivesEachEpochAnOrderOfItsOwnFromTheSeed) {
  const auto first = fit_with([](auto&) {}, true).module->first_x;
  EXPECT_EQ(first, fit_with([](auto&) {}, true).module->first_x);
  EXPECT_NE(first, fit_with([](auto& o) { o.seed = 8; }, true).module->first_x);
  EXPECT_NE(std::vector<float>(first.begin(), first.begin() + 4), std::vector<float>(first.begin() + 4, first.end()));
}

TEST(TrainerOptionsInARun, ClippingByNormAndByValueBoundsTheStep) {
  for (const auto algorithm : {GradientClipAlgorithm::norm, GradientClipAlgorithm::value}) {
    class First : public CountsBatches {
     public:
      using CountsBatches::CountsBatches;
      void on_train_start() override { before = weight(); }
      double before = 0;
    };
    const TempDir dir;
    auto options = quiet(dir);
    options.max_steps = 1;
    options.gradient_clip_val = 0.01;
    options.gradient_clip_algorithm = algorithm;
    Trainer trainer(options);
    const auto module = trainer.fit<First>({.lr = 1.0}, points());
    const double moved = std::abs(module->weight() - module->before);
    EXPECT_LE(moved, 0.01 + 1e-6) << name_of(algorithm);
    EXPECT_GT(moved, 0.0) << name_of(algorithm);
  }
}

TEST(TrainerOptionsInARun, DetectAnomalyFindsTheBackwardThatGivesNaN) {
  class Bad : public Line {
   public:
    using Line::Line;
    StepOutput training_step(const Batch& batch, int64_t) override {
      return torch::sqrt(error(batch) * 0.0).sum() * 0.0;  // 0 * inf
    }
  };
  const TempDir dir;
  auto options = quiet(dir);
  options.detect_anomaly = true;
  Trainer trainer(options);
  EXPECT_THAT(error_of([&] { trainer.fit<Bad>({}, points()); }), HasSubstr("nan"));
  EXPECT_FALSE(torch::autograd::AnomalyMode::is_enabled());  // the run's setting, not the process's
}

TEST(TrainerOptionsInARun, DeterministicHoldsForTheRunOnly) {
  class Looks : public CountsBatches {
   public:
    using CountsBatches::CountsBatches;
    void on_train_start() override { was_on = at::globalContext().deterministicAlgorithms(); }
    bool was_on = false;
  };
  const TempDir dir;
  auto options = quiet(dir);
  options.deterministic = true;
  Trainer trainer(options);
  EXPECT_TRUE(trainer.fit<Looks>({}, points())->was_on);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

// What a run says on stderr.
std::string said_by(const std::function<void(TrainerOptions&)>& change) {
  ::testing::internal::CaptureStderr();
  fit_with([&](auto& options) {
    options.enable_progress_bar = options.enable_model_summary = true;
    options.max_epochs = 2;
    options.callbacks = {std::make_shared<LambdaCallback>(LambdaCallbackOptions{.on_fit_start = [](auto& run, auto&) {
      run.note("this is a note");
      run.note("warning: this is a warning");
    }})};
    change(options);
  });
  return ::testing::internal::GetCapturedStderr();
}

TEST(TrainerOptionsInARun, EndsWithASummaryWhereThereIsABar) {
  const auto said = said_by([](auto&) {});
  EXPECT_THAT(said, HasSubstr("Epoch 1/1: 100% "));
  EXPECT_THAT(said, HasSubstr("run<00:00"));
  EXPECT_THAT(said, HasSubstr("troupe: this is a note\ntroupe: warning: this is a warning\n"));
  EXPECT_THAT(said, HasSubstr("\nfit finished in 00:0"));
  EXPECT_THAT(said, HasSubstr(": 2 epochs, "));
  const auto without_bar = said_by([](auto& options) { options.enable_progress_bar = false; });
  EXPECT_THAT(without_bar, HasSubstr("this is a note"));
  EXPECT_THAT(without_bar, ::testing::Not(HasSubstr("fit finished")));
}

TEST(TrainerOptionsInARun, QuietLeavesWarningsOnly) {
  EXPECT_EQ(said_by([](auto& options) { options.quiet = true; }), "troupe: warning: this is a warning\n");
}

TEST(TrainerOptionsInARun, SeveralValidationLoadersHaveNamesOfTheirOwn) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  trainer.fit<Line>({}, points(), {points(32), points(16)});
  EXPECT_TRUE(trainer.callback_metrics().contains("val_loss/dataloader_idx_0"));
  EXPECT_TRUE(trainer.callback_metrics().contains("val_loss/dataloader_idx_1"));
}

TEST(TrainerOptionsInARun, AMetricMayBeCalledLikeTheSuffixOfALoader) {
  class Odd : public Line {
   public:
    StepOutput validation_step(const Batch& batch, int64_t) override {
      log("x/dataloader_idx_first", error(batch));
      return {};
    }
  };
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const auto results = trainer.validate(std::make_shared<Odd>(), points());
  ASSERT_EQ(results.size(), 1u);
  EXPECT_TRUE(results[0].contains("x/dataloader_idx_first"));
}

TEST(TrainerOptionsInARun, TruncatedBackpropagationStepsOncePerPart) {
  class Parts : public Line {
   public:
    Parts() { truncated_bptt_steps = 2; }
    StepOutput training_step(const Batch& part, int64_t, const StepOutput& hiddens) override {
      lengths.push_back(part[0].size(1));
      had_hiddens.push_back(!hiddens.empty());
      const auto y = layer_(part[0].unsqueeze(2));
      return {{"loss", y.square().mean()}, {"hiddens", y}};
    }
    std::vector<int64_t> lengths;
    std::vector<bool> had_hiddens;
  };
  const TempDir dir;
  Trainer trainer(quiet(dir));
  const DataLoader sequences(std::make_shared<TensorDataset>(torch::ones({4, 5})), {.batch_size = 4});
  const auto module = trainer.fit(std::make_shared<Parts>(), sequences);
  EXPECT_EQ(module->lengths, (std::vector<int64_t>{2, 2, 1, 2, 2, 1}));
  EXPECT_EQ(module->had_hiddens, (std::vector<bool>{false, true, true, false, true, true}));
  EXPECT_EQ(trainer.global_step(), 6);
}

}  // namespace
}  // namespace troupe
