// Where the time of a run went, as its Trainer says it: nothing here looks at how long anything took.
#include "tests/support/ddp.hpp"
#include "tests/support/lines.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace troupe {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

int64_t count_of(const std::vector<PhaseTime>& phases, const std::string& name) {
  const auto found = std::ranges::find(phases, name, &PhaseTime::name);
  return found == phases.end() ? 0 : found->count;
}

double seconds_in(const std::vector<PhaseTime>& phases) {
  return std::accumulate(phases.begin(), phases.end(), 0.0,
                         [](double sum, const PhaseTime& phase) { return sum + phase.seconds; });
}

void expect_whole(const PhaseReport& report) {
  EXPECT_GT(report.seconds, 0);
  EXPECT_NEAR(seconds_in(report.phases), report.seconds, 0.01 * report.seconds);
  for (const auto& phase : report.phases) {
    EXPECT_GE(phase.seconds, 0) << phase.name;
    EXPECT_GE(phase.count, 1) << phase.name;
    EXPECT_LE(phase.longest, phase.seconds * (1 + 1e-9)) << phase.name;
  }
}

TrainerOptions with_table(const TempDir& dir) {
  auto options = quiet(dir);
  options.profiler = Profiler::simple;
  return options;
}

class Busy : public Callback {
 public:
  void on_train_batch_end(RunContext&, Module&, const StepOutput&, const Batch&, int64_t) override {}
  void on_validation_end(RunContext&, Module&) override {}
};

class HookedLine : public Line {
 public:
  using Line::Line;
  void on_after_backward() override {}
  void on_train_epoch_end() override {}
};

// Each sample takes longer to make than a step.
class SlowSamples : public Dataset {
 public:
  int64_t size() const override { return 40; }
  Batch get(int64_t) override {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
    while (std::chrono::steady_clock::now() < end) {
    }
    return Batch{torch::zeros({1}), torch::zeros({1})};
  }
};

TEST(Phases, CountTheWaitForEachBatchThatIsLate) {
  const TempDir dir;
  auto options = with_table(dir);
  options.max_epochs = 1;
  options.num_sanity_val_steps = 0;
  Trainer trainer(options);
  const DataLoader slow(std::make_shared<SlowSamples>(), {.batch_size = 4});
  trainer.fit(std::make_shared<Line>(), slow, slow);
  const auto& report = trainer.phases();
  expect_whole(report);
  EXPECT_GE(count_of(report.phases, "waiting for data"), 5);  // of 10 batches
}

struct SlowDataOptions {
  int64_t num_workers = 0;
};
TROUPE_OPTIONS(SlowDataOptions, (num_workers, "fetchers"))

// A data module that has no hyper-parameters.
class SlowData : public DataModule {
 public:
  using Options = SlowDataOptions;
  explicit SlowData(const Options& options) : options_(options) {}
  DataLoaders train_dataloader() override {
    return DataLoader(std::make_shared<SlowSamples>(), {.batch_size = 4, .num_workers = options_.num_workers});
  }

 private:
  Options options_;
};

TEST(Phases, NameTheOptionOfTheProgramThatHelps) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 6;
  options.name = "line";
  std::vector<std::string> words = {"line", "fit"};
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  ASSERT_EQ((troupe::main<Line, SlowData>(2, argv.data(), {.trainer = options})), 0);
  const auto card = read_run_card(dir / "line/version_0");
  EXPECT_THAT(card.phases.at(0).advice, HasSubstr(" % waiting for data: "));
  EXPECT_THAT(card.phases.at(0).advice, HasSubstr("data.num_workers from 0"));
}

// Two epochs of four batches of training and two of validation, and a sanity check of two.
TEST(Phases, OfAFitAreCountedAndAddUpToTheWhole) {
  const TempDir dir;
  auto options = with_table(dir);
  options.log_every_n_steps = 2;
  options.callbacks = {std::make_shared<Busy>()};
  Trainer trainer(options);
  trainer.fit(std::make_shared<HookedLine>(), points(16), points(32, false));
  const PhaseReport& report = trainer.phases();
  expect_whole(report);
  EXPECT_EQ(report.stage, "fit");
  EXPECT_EQ(report.batches, 8);
  for (const char* name :
       {"forward", "backward", "optimizer", "on_after_backward", "Busy.on_after_backward", "Busy.on_train_batch_end"}) {
    EXPECT_EQ(count_of(report.phases, name), 8) << name;
  }
  for (const char* name : {"on_train_epoch_end", "Busy.on_train_epoch_end", "between epochs"}) {
    EXPECT_EQ(count_of(report.phases, name), 2) << name;
  }
  EXPECT_EQ(count_of(report.phases, "validation"), 3);
  for (const char* name : {"start-up", "logging", "checkpoint", "rest", "configure_optimizers"}) {
    EXPECT_GE(count_of(report.phases, name), 1) << name;
  }
  EXPECT_EQ(count_of(report.phases, "reduction"), 0);
  EXPECT_EQ(count_of(report.parts_of_validation, "forward"), 6);
  EXPECT_EQ(count_of(report.parts_of_validation, "Busy.on_validation_end"), 3);
  const auto whole = std::ranges::find(report.phases, "validation", &PhaseTime::name);
  EXPECT_NEAR(seconds_in(report.parts_of_validation), whole->seconds, 0.01 * whole->seconds);
  EXPECT_GE(count_of(report.meanwhile, "logger"), 1);
  EXPECT_GE(count_of(report.meanwhile, "writing checkpoints"), 1);
  EXPECT_THAT(report.ranks, IsEmpty());
}

TEST(Phases, OfCapturedStepsAreTheSame) {
  const TempDir dir;
  auto options = quiet(dir);
  options.capture_step = CaptureStep::require;
  Trainer trainer(options);
  trainer.fit(std::make_shared<Line>(), points(16));
  expect_whole(trainer.phases());
  for (const char* name : {"forward", "backward", "optimizer"}) {
    EXPECT_EQ(count_of(trainer.phases().phases, name), 8) << name;
  }
}

TEST(Phases, OfSeveralDevicesHaveTheReductionAndTheSlowestRank) {
  const TempDir dir;
  Trainer trainer(exact(dir, 2));
  trainer.fit<Net>({}, DataLoader(samples(32), {.batch_size = 4}));
  const PhaseReport& report = trainer.phases();
  expect_whole(report);
  EXPECT_EQ(report.batches, 12);
  for (const char* name : {"forward", "backward", "reduction", "optimizer"}) {
    EXPECT_EQ(count_of(report.phases, name), 12) << name;
    const auto spread = std::ranges::find(report.ranks, name, &PhaseSpread::name);
    ASSERT_NE(spread, report.ranks.end()) << name;
    EXPECT_GE(spread->slowest, spread->median) << name;
    EXPECT_LT(spread->slowest_rank, 2) << name;
  }
}

TEST(Phases, OfAnEvaluationHaveNoStepsOfTraining) {
  const TempDir dir;
  Trainer trainer(with_table(dir));
  trainer.fit(std::make_shared<Line>(), points(16));
  trainer.test(points(16, false));
  const PhaseReport& report = trainer.phases();
  expect_whole(report);
  EXPECT_EQ(report.stage, "test");
  EXPECT_EQ(report.batches, 4);
  EXPECT_EQ(count_of(report.phases, "forward"), 4);
  EXPECT_EQ(count_of(report.phases, "backward"), 0);
  EXPECT_EQ(count_of(report.phases, "validation"), 0);
  EXPECT_THAT(report.parts_of_validation, IsEmpty());
}

class FailingLine : public Line {
 public:
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    if (batch_idx == 2) throw std::runtime_error("the third batch");
    return Line::training_step(batch, batch_idx);
  }
};

TEST(Phases, AreKnownAfterAFailureToo) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  EXPECT_THAT(error_of([&] { trainer.fit(std::make_shared<FailingLine>(), points(16)); }),
              HasSubstr("the third batch"));
  expect_whole(trainer.phases());
  EXPECT_EQ(trainer.phases().batches, 2);
  EXPECT_EQ(count_of(trainer.phases().phases, "forward"), 3);
  EXPECT_EQ(count_of(trainer.phases().phases, "optimizer"), 2);
}

std::string said_by_a_fit(TrainerOptions options) {
  ::testing::internal::CaptureStderr();
  Trainer trainer(std::move(options));
  trainer.fit(std::make_shared<Line>(), points(16));
  return ::testing::internal::GetCapturedStderr();
}

TEST(Phases, ArePrintedAsATableWithTheSimpleProfilerAlone) {
  const TempDir dir;
  const auto table = said_by_a_fit(with_table(dir));
  EXPECT_THAT(table, HasSubstr("phases of fit"));
  EXPECT_THAT(table, HasSubstr("configure_optimizers"));
  EXPECT_THAT(said_by_a_fit(quiet(dir)), Not(HasSubstr("phases of fit")));
  auto silent = with_table(dir);
  silent.quiet = true;
  EXPECT_THAT(said_by_a_fit(silent), Not(HasSubstr("phases of fit")));
}

}  // namespace
}  // namespace troupe
