// The script of fit against a replica that only counts: which commands come, in which order, up to which batch.
#include "troupe/runtime/loops/fit_script.hpp"

#include "troupe/modules/hook_order.hpp"
#include "troupe/runtime/loops/validation_plan.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Lines = std::vector<std::string>;

// Carries commands out by counting, and writes a line for each.
class Counter {
 public:
  explicit Counter(RunState& state, int64_t batches) : state_(state), batches_(batches) {}

  Lines run() {
    Script script = fit_script(state_);
    for (auto command = script.start(); command; command = script.resume(answer())) {
      std::visit([&](const auto& concrete) { carry_out(concrete); }, *command);
    }
    return lines_;
  }

  /// A batch takes a second of this clock, and a segment ends as soon as something is due by it.
  void go_by_time(double begin = 0) {
    auto clock = std::make_shared<double>(begin);
    state_.info.seconds = [clock] { return *clock; };
    clock_ = clock;
  }
  std::vector<int64_t> logged;  ///< batches whose metrics log_every hands over

  /// Called after every batch.
  std::function<void(const Progress&)> after_batch = [](const Progress&) {};
  std::function<void()> during_validation = [] {};
  /// The first validation beside the training that has no result yet comes to its end.
  void end_validation() {
    ValidationResult result;
    result.progress = state_.validations[state_.validation_results.size()].progress;
    result.epoch.push_back({"val_loss", "val_loss", static_cast<double>(result.progress.total_batches)});
    state_.validation_results.push_back(std::make_shared<const ValidationResult>(std::move(result)));
  }
  /// The script waits for one.
  std::function<void()> during_wait = [this] { end_validation(); };
  std::function<void()> during_agreement = [] {};
  nlohmann::json saved_monitors;  ///< with the latest checkpoint
  DataFacts facts;
  std::vector<std::shared_ptr<Monitor>> monitors;
  MetricMap metrics;

 private:
  Answer answer() {
    Answer out;
    out.progress = progress_;
    out.metrics = metrics;
    out.epoch_over = epoch_over_;
    out.said = said_;
    return out;
  }
  void carry_out(const PrepareCommand&) {
    state_.facts = facts;
    state_.monitors = monitors;
  }
  void carry_out(const HooksCommand& command) { lines_.emplace_back(to_string(command.hooks.front())); }
  void carry_out(const OpenEpochCommand& command) {
    progress_.epoch = command.epoch;
    lines_.push_back("epoch " + std::to_string(command.epoch));
  }
  void carry_out(const TrainCommand& command) {
    epoch_over_ = false;
    const int64_t from = progress_.batch_idx;
    while (!epoch_over_ && !(command.until_batch >= 0 && progress_.batch_idx >= command.until_batch) &&
           !(command.until_step >= 0 && progress_.global_step >= command.until_step) && !state_.stops_now() &&
           state_.validation_results.empty() &&
           !(clock_ && progress_.batch_idx > from && state_.next_time().value_or(HUGE_VAL) <= *clock_)) {
      ++progress_.batch_idx;
      ++progress_.total_batches;
      ++progress_.global_step;
      if (clock_) *clock_ += 1;
      if (command.logs_first && progress_.batch_idx == from + 1) logged.push_back(progress_.total_batches);
      epoch_over_ = progress_.batch_idx == batches_;
      state_.progress = progress_;
      after_batch(progress_);
    }
    lines_.push_back("train " + std::to_string(from) + "-" + std::to_string(progress_.batch_idx));
  }
  void carry_out(const AgreeCommand& command) {
    said_ = {command.mine, command.mine};  // two ranks of one opinion
    during_agreement();
  }
  void carry_out(const CloseEpochCommand& command) {
    lines_.emplace_back(command.is_cut ? "end within epoch" : "end of epoch");
    if (command.is_cut) return;
    progress_.epoch += 1;
    progress_.batch_idx = 0;
  }
  void carry_out(const HoldCommand&) { lines_.emplace_back("hold"); }
  void carry_out(const KeepCommand&) { lines_.emplace_back("keep"); }
  void carry_out(const SetRateCommand& command) { lines_.push_back("rate " + std::to_string(command.lr)); }
  void carry_out(const EvaluateCommand& command) {
    lines_.emplace_back(command.is_sanity_check ? "sanity check" : "validate");
    during_validation();
  }
  void carry_out(const HandOverCommand& command) {
    const auto of = command.of_checkpoint;
    lines_.push_back(of ? "begin again " + std::to_string(*of)
                        : std::string(command.evaluation.is_sanity_check ? "begin sanity check" : "begin"));
  }
  void carry_out(const AwaitValidationCommand&) {
    lines_.emplace_back("wait");
    during_wait();
  }
  void carry_out(const TakeValidationCommand& command) {
    lines_.push_back("take " + std::to_string(command.result->progress.total_batches));
  }
  void carry_out(const SaveCommand& command) {
    lines_.push_back((command.is_held        ? "save held "
                      : command.is_validated ? "save validated "
                                             : "save ") +
                     command.requests.front().path.filename().string());
    saved_monitors = state_.monitor_states();
  }

  RunState& state_;
  std::shared_ptr<double> clock_;
  int64_t batches_;
  Progress progress_;
  bool epoch_over_ = false;
  std::vector<std::string> said_;
  Lines lines_;
};

class FitScript : public testing::Test {
 protected:
  Counter counter(int64_t batches, TrainerOptions options, bool has_validation = true) {
    state.options = std::make_shared<const TrainerOptions>(resolved(std::move(options)));
    state.info.run_dir = "/run";
    Counter out(state, batches);
    out.facts.train_batches = batches;
    out.facts.has_training = out.facts.has_optimizer = true;
    out.facts.has_evaluation = has_validation;
    return out;
  }
  RunState state;
};

TEST_F(FitScript, ValidatesAtTheEndOfEachEpochAfterASanityCheck) {
  EXPECT_THAT(
      counter(4, {.max_epochs = 2}).run(),
      ElementsAre("sanity check", "on_train_start", "epoch 0", "train 0-4", "validate", "end of epoch", "epoch 1",
                  "train 0-4", "validate", "end of epoch", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, OneCommandCoversAnEpochWithoutADecisionP3) {
  for (const int64_t batches : {1, 10, 100000}) {
    state = {};
    EXPECT_EQ(counter(batches, {.max_epochs = 1}).run().size(), 9u) << batches;
  }
}

TEST_F(FitScript, LeavesTheSanityCheckOutWhenToldTo) {
  const auto lines = counter(2, {.max_epochs = 1, .num_sanity_val_steps = 0}).run();
  EXPECT_EQ(lines.front(), "on_train_start");
}

TEST_F(FitScript, ValidatesAfterAFractionOfAnEpochAndAfterACountOfBatches) {
  const Lines expected = {"on_train_start", "epoch 0",      "train 0-2",    "validate",   "train 2-4", "validate",
                          "train 4-5",      "end of epoch", "on_train_end", "on_fit_end", "teardown"};
  TrainerOptions options{.max_epochs = 1, .num_sanity_val_steps = 0, .val_check_interval = 0.4};
  EXPECT_EQ(counter(5, options).run(), expected);
  options.val_check_interval = 2;
  state = {};
  EXPECT_EQ(counter(5, options).run(), expected);
}

TEST_F(FitScript, CountsTheValidationIntervalOverEpochsWithoutCheckValEveryNEpoch) {
  TrainerOptions options{.max_epochs = 2, .num_sanity_val_steps = 0, .val_check_interval = 3};
  options.check_val_every_n_epoch = std::nullopt;
  EXPECT_THAT(counter(2, options).run(),
              ElementsAre("on_train_start", "epoch 0", "train 0-2", "end of epoch", "epoch 1", "train 0-1", "validate",
                          "train 1-2", "end of epoch", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, ValidatesEveryNthEpoch) {
  TrainerOptions options{.max_epochs = 3, .num_sanity_val_steps = 0};
  options.check_val_every_n_epoch = 2;
  const auto lines = counter(1, options).run();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "validate"), 1);
  EXPECT_EQ(lines[4], "epoch 1");
  EXPECT_EQ(lines[6], "validate");
}

TEST_F(FitScript, DoesWhatIsAskedForAtTheNextBoundaryOnce) {
  for (const bool has_other_processes : {false, true}) {
    state = {};
    state.has_other_processes = has_other_processes;
    TrainerOptions options{.max_epochs = 2, .num_sanity_val_steps = 0};
    options.check_val_every_n_epoch = 3;
    auto asked = counter(2, options);
    asked.after_batch = [this](const Progress& at) {
      if (at.global_step != 1) return;
      state.asked = {.checkpoint = true, .validation = true, .lr = 0.5};
    };
    EXPECT_THAT(asked.run(), ElementsAre("on_train_start", "epoch 0", "train 0-2", "rate 0.500000",
                                         "save requested-step=2.safetensors", "validate", "end of epoch", "epoch 1",
                                         "train 0-2", "end of epoch", "on_train_end", "on_fit_end", "teardown"));
  }
}

TEST_F(FitScript, LeavesAValidationOutThatTheRunHasNot) {
  auto asked = counter(2, {.max_epochs = 1}, /*has_validation=*/false);
  asked.after_batch = [this](const Progress&) { state.asked.validation = true; };
  EXPECT_THAT(asked.run(), testing::Not(Contains("validate")));
}

// One process alone would wait for the others in its snapshot.
TEST_F(FitScript, WhatIsAskedForWhileProcessesAgreeIsDoneTheNextTimeByAll) {
  state.has_other_processes = true;
  auto asked = counter(2, {.max_epochs = 2, .num_sanity_val_steps = 0}, false);
  asked.during_agreement = [this, agreements = 0]() mutable {
    if (++agreements == 2) state.asked = {.checkpoint = true, .lr = 0.5};
  };
  EXPECT_THAT(asked.run(), ElementsAre("on_train_start", "epoch 0", "train 0-2", "end of epoch", "epoch 1", "train 0-2",
                                       "rate 0.500000", "save requested-step=4.safetensors", "end of epoch",
                                       "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, EndsAtMaxStepsInTheMiddleOfAnEpoch) {
  EXPECT_THAT(counter(4, {.max_steps = 6, .num_sanity_val_steps = 0}, false).run(),
              ElementsAre("on_train_start", "epoch 0", "train 0-4", "end of epoch", "epoch 1", "train 0-2", "hold",
                          "end within epoch", "on_train_end", "on_fit_end", "teardown"));
  EXPECT_EQ(state.progress.epoch, 1);  // whose rest is there for who goes on
  EXPECT_EQ(state.progress.batch_idx, 2);
}

TEST_F(FitScript, KeepsAStateEveryFewStepsIfTheRunIsElastic) {
  TrainerOptions options{.elastic = "1:2", .elastic_every_n_steps = 3, .max_epochs = 2, .num_sanity_val_steps = 0};
  EXPECT_THAT(counter(4, options).run(),
              ElementsAre("on_train_start", "epoch 0", "train 0-3", "keep", "train 3-4", "validate", "end of epoch",
                          "epoch 1", "train 0-2", "keep", "train 2-4", "validate", "end of epoch", "on_train_end",
                          "on_fit_end", "teardown"));
}

TEST_F(FitScript, AStopRequestEndsTheEpochAtTheNextBatchAndRunsItsHooks) {
  auto fit = counter(10, {.max_epochs = 5, .num_sanity_val_steps = 0}, false);
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 3) state.stop = StopRequest{"enough", false};
  };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "hold", "end within epoch",
                                     "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, AStopRequestWaitsForMinEpochsAndMinSteps) {
  auto fit = counter(4, {.max_epochs = 9, .min_epochs = 2, .num_sanity_val_steps = 0}, false);
  fit.after_batch = [&](const Progress&) { state.stop = StopRequest{"enough", false}; };
  const auto lines = fit.run();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "train 0-4"), 2);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "epoch 2"), 0);

  state = {};
  auto steps = counter(4, {.max_epochs = 9, .min_steps = 6, .num_sanity_val_steps = 0}, false);
  steps.after_batch = [&](const Progress&) { state.stop = StopRequest{"enough", false}; };
  const auto step_lines = steps.run();
  EXPECT_EQ(std::count(step_lines.begin(), step_lines.end(), "train 0-2"), 1);
}

TEST_F(FitScript, AnInterruptSavesWhereItStandsAndLeavesTheRestOfTheEpochOut) {
  auto fit = counter(10, {.max_epochs = 5, .min_epochs = 5, .num_sanity_val_steps = 0});
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 3) state.stop = StopRequest{"interrupted", true};
  };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "save last.safetensors", "on_train_end",
                                     "on_fit_end", "teardown"));
}

TEST_F(FitScript, TrainsNothingWithoutAnOptimizer) {
  auto fit = counter(4, {.max_epochs = 1});
  fit.facts.has_optimizer = false;
  EXPECT_THAT(fit.run(), ElementsAre("on_fit_end", "teardown"));
}

// Answers with what it is given, and keeps what it was asked.
class Scripted : public Monitor {
 public:
  std::string state_key() const override { return key; }
  std::string key = "scripted";
  nlohmann::json state_dict() const override { return state; }
  void load_state_dict(const nlohmann::json& loaded) override { state = loaded; }
  std::optional<int64_t> next_step(const Progress& at) const override {
    return every_steps ? std::optional((at.global_step / every_steps + 1) * every_steps) : std::nullopt;
  }
  Decision decide(Moment moment, const Progress& at, const MetricMap&) override { return answer(moment, at); }
  std::function<Decision(Moment, const Progress&)> answer = [](Moment, const Progress&) { return Decision{}; };
  int64_t every_steps = 0;
  nlohmann::json state = nullptr;
};

TEST_F(FitScript, AsksMonitorsAtTheStepsThatTheyPlan) {
  auto monitor = std::make_shared<Scripted>();
  monitor->every_steps = 3;
  monitor->answer = [](Moment moment, const Progress& at) {
    Decision out;
    if (moment == Moment::train_batch_end && at.global_step % 3 == 0) {
      out.save.push_back({"/run/step" + std::to_string(at.global_step), {}});
    }
    return out;
  };
  auto fit = counter(4, {.max_epochs = 2, .num_sanity_val_steps = 0}, false);
  fit.monitors = {monitor};
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "save step3", "train 3-4",
                                     "end of epoch", "epoch 1", "train 0-2", "save step6", "train 2-4", "end of epoch",
                                     "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, AMonitorsStopAfterValidationEndsTheRunWithItsReason) {
  auto monitor = std::make_shared<Scripted>();
  monitor->answer = [](Moment moment, const Progress& at) {
    Decision out;
    if (moment == Moment::validation_end && at.epoch == 1) out = {true, "no better", {}};
    return out;
  };
  auto fit = counter(2, {.max_epochs = 9});
  fit.monitors = {monitor};
  const auto lines = fit.run();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "validate"), 2);
  EXPECT_EQ(state.stop->reason, "no better");
}

// Wants to stop after validation in the first epochs, and to go on in the others.
std::shared_ptr<Scripted> doubtful(int64_t epochs, std::string reason = "no better") {
  auto monitor = std::make_shared<Scripted>();
  monitor->answer = [=](Moment moment, const Progress& at) -> Decision {
    if (moment != Moment::validation_end) return {};
    return {.stop = at.epoch < epochs, .reason = reason, .save = {}, .go_on = at.epoch >= epochs};
  };
  return monitor;
}

TEST_F(FitScript, AStopThatTheMinimaPutOffIsTakenBackByAMonitorThatWantsToGoOn) {
  for (const bool has_others : {false, true}) {
    state = {};
    state.has_other_processes = has_others;
    auto fit = counter(2, {.max_epochs = 10, .min_epochs = 6});
    fit.monitors = {doubtful(3)};
    const auto lines = fit.run();
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "end of epoch"), 10) << has_others;
    EXPECT_FALSE(state.stop) << has_others;
  }
}

TEST_F(FitScript, AStopThatStandsWhenTheMinimaAreReachedEndsTheRunThere) {
  for (const bool has_others : {false, true}) {
    state = {};
    state.has_other_processes = has_others;
    auto fit = counter(2, {.max_epochs = 10, .min_epochs = 3});
    fit.monitors = {doubtful(3)};
    const auto lines = fit.run();
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "end of epoch"), 3) << has_others;
    EXPECT_EQ(state.stop->reason, "no better") << has_others;
  }
}

TEST_F(FitScript, OneMonitorTakesBackNothingThatSomebodyElseAskedFor) {
  for (const bool has_others : {false, true}) {
    state = {};
    state.has_other_processes = has_others;
    auto two = counter(2, {.max_epochs = 10, .min_epochs = 5});
    two.monitors = {doubtful(2, "first"), doubtful(9, "second")};
    const auto lines = two.run();
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "end of epoch"), 5) << has_others;
    EXPECT_EQ(state.stop->reason, "second") << has_others;

    state = {};
    state.has_other_processes = has_others;
    auto user = counter(2, {.max_epochs = 10, .min_epochs = 5});
    user.monitors = {doubtful(2)};
    user.after_batch = [&](const Progress& at) {
      if (at.epoch == 1) state.ask_to_stop({"the user"});
    };
    const auto user_lines = user.run();
    EXPECT_EQ(std::count(user_lines.begin(), user_lines.end(), "end of epoch"), 5) << has_others;
    EXPECT_EQ(state.stop->reason, "the user") << has_others;
  }
}

// What a run that goes on is told of the ends that the one before was asked for.
std::shared_ptr<Checkpoint> checkpoint_of(RunState& before) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->metadata["loop"] = before.loop_to_json();
  checkpoint->metadata["callbacks"] = before.monitor_states();
  return checkpoint;
}

TEST_F(FitScript, AMonitorsStopEndsARunThatGoesOnWithItBeforeTheFirstBatch) {
  const Lines nothing = {"on_train_start", "on_train_end", "on_fit_end", "teardown"};
  auto before = counter(2, {.max_epochs = 9});
  before.monitors = {doubtful(1, "no\x1b better")};
  before.run();
  const auto checkpoint = checkpoint_of(state);
  for (const bool has_others : {false, true}) {
    state = {};
    state.has_other_processes = has_others;
    state.checkpoint = checkpoint;
    auto same = counter(2, {.max_epochs = 9});
    same.monitors = {doubtful(1)};
    EXPECT_EQ(same.run(), nothing) << has_others;
    EXPECT_THAT(state.stop->reason, HasSubstr("no\\x1b better when the checkpoint was written; to go on, change"));

    state = {};
    state.has_other_processes = has_others;
    state.checkpoint = checkpoint;
    auto other = counter(2, {.max_epochs = 9});
    other.monitors = {doubtful(0)};
    std::static_pointer_cast<Scripted>(other.monitors[0])->key = "scripted otherwise";
    const auto lines = other.run();
    EXPECT_EQ(std::count(lines.begin(), lines.end(), "train 0-2"), 9) << has_others;
  }
}

TEST_F(FitScript, AStopThatTheMinimaPutOffIsOfTheRunThatGoesOnToo) {
  for (const bool is_interrupted : {false, true}) {
    state = {};
    auto before = counter(4, {.max_epochs = 9, .min_steps = 6});
    before.after_batch = [&](const Progress& at) {
      if (at.global_step == 1) state.ask_to_stop({"the user"});
      if (at.global_step == 3 && is_interrupted) state.ask_to_stop({.reason = "a signal", .interrupt = true});
    };
    before.run();
    const auto stops = state.loop_to_json().contains("stops");
    EXPECT_EQ(stops, is_interrupted) << "a request has done what it was for when the run ends with it";
    if (!stops) continue;
    const auto checkpoint = checkpoint_of(state);
    state = {};
    state.checkpoint = checkpoint;
    auto after = counter(4, {.max_epochs = 9, .min_steps = 6});
    EXPECT_THAT(after.run(), Contains("train 0-2")) << "of the second epoch";
    EXPECT_EQ(state.stop->reason, "the user");
  }
}

TEST_F(FitScript, DamagedStopsAreRefused) {
  Checkpoint checkpoint;
  for (const char* bad : {R"("soon")", "[1]", R"([{"monitor": "scripted"}])", R"([{"monitor": 1, "reason": "none"}])",
                          R"([{"reason": 1}])"}) {
    checkpoint.metadata["loop"]["stops"] = nlohmann::json::parse(bad);
    EXPECT_THROW(state.load_stops(checkpoint.metadata), CheckpointError) << bad;
  }
}

TEST_F(FitScript, ValidatesWhenTheTimeHasPassedOverEpochs) {
  for (const bool has_others : {false, true}) {
    state = {};
    state.has_other_processes = has_others;
    auto fit = counter(5, {.max_epochs = 2, .num_sanity_val_steps = 0, .val_check_interval = std::chrono::seconds(3)});
    fit.go_by_time(100);
    EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "validate", "train 3-5",
                                       "end of epoch", "epoch 1", "train 0-1", "validate", "train 1-4", "validate",
                                       "train 4-5", "end of epoch", "on_train_end", "on_fit_end", "teardown"))
        << has_others;
  }
}

TEST_F(FitScript, LeavesEpochsOutWhereValidationGoesByTimeToo) {
  auto fit = counter(4, {.max_epochs = 2,
                         .num_sanity_val_steps = 0,
                         .val_check_interval = std::chrono::seconds(3),
                         .check_val_every_n_epoch = 2});
  fit.go_by_time();
  const auto lines = fit.run();
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "validate"), 2) << "after batches 1 and 4 of the second epoch";
}

TEST_F(FitScript, WhatGoesByTimeIsRankZerosToDecide) {
  state.has_other_processes = true;
  state.info.decides_times = false;
  auto fit = counter(
      5,
      {.max_epochs = 1, .num_sanity_val_steps = 0, .val_check_interval = std::chrono::seconds(1), .log_every = "1s"});
  fit.go_by_time();
  const auto lines = fit.run();  // rank zero says what this one does: nothing
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "validate"), 0);
  EXPECT_THAT(fit.logged, ElementsAre());
}

TEST_F(FitScript, LogsTheStepThatFollowsWhenTheTimeHasPassed) {
  auto fit = counter(9, {.max_epochs = 1, .log_every = "00:00:03"}, false);
  fit.go_by_time();
  fit.run();
  EXPECT_THAT(fit.logged, ElementsAre(4, 7));
}

TEST_F(FitScript, AResumedRunHasTheRestOfTheTimeBeforeIt) {
  auto before = counter(
      2,
      {.max_epochs = 1, .num_sanity_val_steps = 0, .val_check_interval = std::chrono::seconds(5), .log_every = "7s"});
  before.go_by_time();
  before.run();
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->metadata["loop"] = state.loop_to_json();
  state = {};
  auto after = counter(9, {.max_epochs = 1, .val_check_interval = std::chrono::seconds(5), .log_every = "7s"});
  after.go_by_time(1000);
  state.checkpoint = checkpoint;
  const auto lines = after.run();
  EXPECT_THAT(lines, Contains("train 0-3"));
  EXPECT_THAT(after.logged, ElementsAre(6)) << "five seconds were left";
  for (const auto& bad : {nlohmann::json("soon"), nlohmann::json::array()}) {
    checkpoint->metadata["loop"]["seconds_since_validation"] = bad;
    EXPECT_THROW(state.start_times(), CheckpointError);
  }
}

TEST_F(FitScript, ACallOfAMonitorThatThrowsIsNamed) {
  auto monitor = std::make_shared<Scripted>();
  monitor->answer = [](Moment, const Progress&) -> Decision { throw 42; };
  auto fit = counter(2, {.max_epochs = 1});
  fit.monitors = {monitor};
  EXPECT_EQ(state.place(), "coordinator");
  EXPECT_THROW(fit.run(), int);
  EXPECT_EQ(state.place(), "Scripted::decide");
}

TEST_F(FitScript, ALastValidationWithinAnEpochComesBehindTheStateThatIsKept) {
  auto monitor = std::make_shared<Scripted>(), saving = std::make_shared<Scripted>();
  saving->key = "saving";
  monitor->state = saving->state = 0;
  monitor->answer = [&](Moment, const Progress&) {
    monitor->state = monitor->state.get<int>() + 1;
    return Decision{};
  };
  saving->answer = [&](Moment moment, const Progress&) {
    Decision out;
    if (moment != Moment::validation_end && moment != Moment::train_epoch_end) return out;
    saving->state = saving->state.get<int>() + 1;
    out.save.push_back({"/run/file", {}});
    return out;
  };
  auto fit = counter(10, {.max_epochs = 5, .num_sanity_val_steps = 0});
  fit.monitors = {monitor, saving};
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 3) state.stop = StopRequest{"enough", false};
  };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "hold", "validate", "save held file",
                                     "end within epoch", "save held file", "on_train_end", "on_fit_end", "teardown"));
  // What a monitor has seen since is not of the epoch's middle, unless it is a file of its own.
  EXPECT_EQ(fit.saved_monitors, (nlohmann::json{{"scripted", 1}, {"saving", 2}}));
}

TEST_F(FitScript, AValidationThatIsDueWhereTheRunEndsBelongsToTheStateThatIsKept) {
  auto fit = counter(10, {.max_steps = 4, .num_sanity_val_steps = 0, .val_check_interval = 2});
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-2", "validate", "train 2-4", "validate",
                                     "hold", "end within epoch", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, AnInterruptInTheLastValidationLeavesTheStateBeforeIt) {
  auto fit = counter(10, {.max_epochs = 5, .num_sanity_val_steps = 0});
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 3) state.stop = StopRequest{"enough", false};
  };
  fit.during_validation = [&] { state.stop = StopRequest{"interrupted", true}; };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "hold", "validate",
                                     "save held last.safetensors", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, AnInterruptAtTheLastBatchLeavesTheEpochOpenWhileItsValidationIsOwed) {
  auto fit = counter(4, {.max_epochs = 5, .num_sanity_val_steps = 0});
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 4) state.stop = StopRequest{"interrupted", true};
  };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-4", "save last.safetensors", "on_train_end",
                                     "on_fit_end", "teardown"));
}

TEST_F(FitScript, AnInterruptInTheLastValidationLeavesTheEpochOpen) {
  auto fit = counter(4, {.max_epochs = 5, .num_sanity_val_steps = 0});
  fit.during_validation = [&] { state.stop = StopRequest{"interrupted", true}; };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-4", "validate", "save last.safetensors",
                                     "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, ARunThatNobodyWantsToEndAnyMoreGoesOn) {
  auto fit = counter(10, {.max_epochs = 1, .num_sanity_val_steps = 0});
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 3) state.stop = StopRequest{"enough", false};
  };
  fit.during_validation = [&] { state.stop.reset(); };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-3", "hold", "validate", "train 3-10",
                                     "validate", "end of epoch", "on_train_end", "on_fit_end", "teardown"));
  EXPECT_FALSE(state.held_monitors);
}

TEST_F(FitScript, NothingIsDecidedOnAValidationThatWasInterrupted) {
  auto monitor = std::make_shared<Scripted>();
  int asked = 0;
  monitor->answer = [&](Moment moment, const Progress&) {
    asked += moment == Moment::validation_end;
    return Decision{};
  };
  auto fit = counter(2, {.max_epochs = 2, .num_sanity_val_steps = 0});
  fit.monitors = {monitor};
  fit.during_validation = [&] { state.stop = StopRequest{"interrupted", true}; };
  fit.run();
  EXPECT_EQ(asked, 0);
}

TEST_F(FitScript, MonitorsGetTheirStateBackFromACheckpoint) {
  auto monitor = std::make_shared<Scripted>();
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->metadata["callbacks"] = {{"scripted", 7}};
  checkpoint->metadata["loop"] = nlohmann::json::object();
  state.checkpoint = checkpoint;
  auto fit = counter(2, {.max_epochs = 1});
  fit.monitors = {monitor};
  const auto lines = fit.run();
  EXPECT_EQ(monitor->state, 7);
  EXPECT_EQ(lines.front(), "on_train_start");  // a resumed run needs no sanity check
}

TrainerOptions beside(TrainerOptions options) {
  options.async_validation = true;
  options.num_sanity_val_steps = 0;
  return options;
}

TEST_F(FitScript, BesideTheTrainingAResultIsTakenBetweenTwoBatchesWhenItHasCome) {
  auto fit = counter(4, beside({.max_epochs = 3}));
  fit.after_batch = [&](const Progress& at) {
    if (at.total_batches == 6) fit.end_validation();
  };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-4", "begin", "end of epoch", "epoch 1",
                                     "train 0-2", "take 4", "train 2-4", "begin", "end of epoch", "epoch 2",
                                     "train 0-4", "begin", "end of epoch", "wait", "take 8", "wait", "take 12",
                                     "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, BesideTheTrainingOneValidationWaitsAtMostP5) {
  EXPECT_THAT(counter(4, beside({.max_epochs = 1, .val_check_interval = 1})).run(),
              ElementsAre("on_train_start", "epoch 0", "train 0-1", "begin", "train 1-2", "begin", "train 2-3", "wait",
                          "take 1", "begin", "train 3-4", "wait", "take 2", "begin", "end of epoch", "wait", "take 3",
                          "wait", "take 4", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, BesideTheTrainingTheSanityCheckIsWaitedFor) {
  auto options = beside({.max_epochs = 1});
  options.num_sanity_val_steps = 2;
  EXPECT_THAT(counter(4, options).run(),
              ElementsAre("begin sanity check", "wait", "take 0", "on_train_start", "epoch 0", "train 0-4", "begin",
                          "end of epoch", "wait", "take 4", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, BesideTheTrainingMonitorsAreAskedAboutTheStepOfTheValidation) {
  auto monitor = std::make_shared<Scripted>();
  Lines asked;
  monitor->answer = [&](Moment moment, const Progress& at) {
    const std::string step = std::to_string(at.total_batches), epoch = std::to_string(at.epoch);
    Decision out;
    if (moment == Moment::validation_end) asked.push_back("validation " + step + " of epoch " + epoch);
    if (moment == Moment::train_epoch_end) {
      asked.push_back("end " + step + " of epoch " + epoch);
      out.save.push_back({"/run/end" + step, {}});
    }
    return out;
  };
  auto fit = counter(4, beside({.max_epochs = 2}));
  fit.monitors = {monitor};
  fit.after_batch = [&](const Progress& at) {
    if (at.total_batches == 6) fit.end_validation();
  };
  EXPECT_THAT(fit.run(),
              ElementsAre("on_train_start", "epoch 0", "train 0-4", "begin", "end of epoch", "epoch 1", "train 0-2",
                          "take 4", "save validated end4", "train 2-4", "begin", "end of epoch", "wait", "take 8",
                          "save validated end8", "on_train_end", "on_fit_end", "teardown"));
  EXPECT_THAT(
      asked, ElementsAre("validation 4 of epoch 0", "end 4 of epoch 0", "validation 8 of epoch 1", "end 8 of epoch 1"));
  EXPECT_EQ(state.validated_batches, 8);
}

TEST_F(FitScript, BesideTheTrainingARunThatIsAboutToStopHasAllResultsFirst) {
  auto fit = counter(10, beside({.max_epochs = 5, .val_check_interval = 4}));
  fit.after_batch = [&](const Progress& at) {
    if (at.global_step == 6) state.stop = StopRequest{"enough", false};
  };
  EXPECT_THAT(fit.run(),
              ElementsAre("on_train_start", "epoch 0", "train 0-4", "begin", "train 4-6", "wait", "take 4", "hold",
                          "begin", "wait", "take 6", "end within epoch", "on_train_end", "on_fit_end", "teardown"));
}

TEST_F(FitScript, BesideTheTrainingAResultMayEndTheRun) {
  auto monitor = std::make_shared<Scripted>();
  monitor->answer = [&](Moment moment, const Progress& at) {
    return Decision{.stop = moment == Moment::validation_end && at.total_batches == 4, .reason = "worse"};
  };
  auto fit = counter(4, beside({.max_epochs = 5}));
  fit.monitors = {monitor};
  fit.after_batch = [&](const Progress& at) {
    if (at.total_batches == 6) fit.end_validation();
  };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-4", "begin", "end of epoch", "epoch 1",
                                     "train 0-2", "take 4", "hold", "begin", "wait", "take 6", "end within epoch",
                                     "on_train_end", "on_fit_end", "teardown"));
  EXPECT_EQ(state.stop->reason, "worse");
}

TEST_F(FitScript, BesideTheTrainingAnInterruptWaitsForNoResult) {
  auto fit = counter(4, beside({.max_epochs = 1}));
  fit.during_wait = [&] { state.stop = StopRequest{"interrupted", true}; };
  EXPECT_THAT(fit.run(), ElementsAre("on_train_start", "epoch 0", "train 0-4", "begin", "end of epoch", "wait",
                                     "save last.safetensors", "on_train_end", "on_fit_end", "teardown"));
  EXPECT_EQ(state.validations.size(), 1u);
}

// Of an epoch's end, and of a step after it.
std::shared_ptr<Checkpoint> checkpoint_with_validations() {
  RunState before;
  before.validations.push_back({{.batch_idx = 4, .total_batches = 4}, {{"train_loss", NAN}}});
  before.validations.back().epoch_end = {{.batch_idx = 4, .total_batches = 4}, {{"train_loss", 0.5}}};
  before.validations.push_back({{.epoch = 1, .batch_idx = 2, .total_batches = 6}, {}});
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->metadata["loop"] = before.loop_to_json();
  checkpoint->metadata["validations"] = {1, 2};
  return checkpoint;
}

TEST_F(FitScript, BesideTheTrainingWhatWasUnderWayIsBegunAgain) {
  auto monitor = std::make_shared<Scripted>();
  Lines asked;
  monitor->answer = [&](Moment moment, const Progress& at) {
    if (moment == Moment::validation_end) asked.push_back("validation " + std::to_string(at.total_batches));
    if (moment == Moment::train_epoch_end) asked.push_back("end " + std::to_string(at.total_batches));
    return Decision{};
  };
  state.checkpoint = checkpoint_with_validations();
  auto fit = counter(4, beside({.max_epochs = 1}));
  fit.monitors = {monitor};
  EXPECT_THAT(fit.run(), ElementsAre("begin again 0", "begin again 1", "on_train_start", "epoch 0", "train 0-4", "wait",
                                     "take 4", "begin", "end of epoch", "wait", "take 6", "wait", "take 4",
                                     "on_train_end", "on_fit_end", "teardown"));
  EXPECT_THAT(asked, ElementsAre("validation 4", "end 4", "validation 6", "validation 4", "end 4"));
}

TEST_F(FitScript, BesideTheTrainingDamagedValidationsAreRefused) {
  const auto refusal = [&](const std::function<void(nlohmann::json&)>& damage) -> std::string {
    const auto checkpoint = checkpoint_with_validations();
    damage(checkpoint->metadata);
    try {
      state.load_validations(checkpoint->metadata);
      return "accepted";
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(refusal([](auto&) {}), "accepted");
  ASSERT_EQ(state.validations.size(), 2u);
  EXPECT_TRUE(std::isnan(state.validations[0].metrics.at("train_loss")));
  EXPECT_EQ(state.validations[0].epoch_end->metrics.at("train_loss"), 0.5);
  EXPECT_THAT(refusal([](auto& metadata) { metadata["validations"].erase(1); }),
              HasSubstr("validations has 2 entries"));
  EXPECT_THAT(refusal([](auto& metadata) { metadata["loop"]["validations"] = 3; }), HasSubstr("validations is not"));
  EXPECT_THAT(refusal([](auto& metadata) {
                metadata["loop"]["validations"][1]["metrics"] = {{"a", "b"}};
              }),
              HasSubstr("metric a is not a number"));
  EXPECT_THAT(refusal([](auto& metadata) { metadata["loop"]["validations"][1]["progress"].erase("epoch"); }),
              HasSubstr("epoch"));
}

TEST(ValidationPlan, RefusesAnIntervalLongerThanTheEpoch) {
  const TrainerOptions options{.val_check_interval = 11};
  try {
    ValidationPlan(options, 10, true);
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("trainer.val_check_interval = 11"));
    EXPECT_THAT(error.what(), HasSubstr("10 training batches"));
  }
  EXPECT_THROW(ValidationPlan(TrainerOptions{.val_check_interval = 0.5}, std::nullopt, true), UsageError);
}

TEST(ValidationPlan, OfAStreamIsItsEnd) {
  const ValidationPlan plan(TrainerOptions{}, std::nullopt, true);
  EXPECT_FALSE(plan.next(0, 5, 5));
  EXPECT_FALSE(plan.is_due(0, 5, 5, false));
  EXPECT_TRUE(plan.is_due(0, 5, 5, true));
}

}  // namespace
}  // namespace troupe
