// What a run leaves behind for those who look at it: run.json, report.html, failure.json.
#include "tests/support/file_content.hpp"
#include "tests/support/lines.hpp"
#include "troupe/runtime/report/run_card.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsSupersetOf;

std::vector<std::string> names_of(const std::vector<PhaseTime>& phases) {
  std::vector<std::string> names;
  for (const auto& phase : phases) names.push_back(phase.name);
  return names;
}

struct Breaks : Line {
  using Line::Line;
  StepOutput training_step(const Batch& batch, int64_t index) override {
    if (index == 2) throw std::runtime_error("the third batch is <b>bad</b>");
    return Line::training_step(batch, index);
  }
};

/// Keeps what every record was.
struct Kinds : Sink {
  std::string name() const override { return "kinds"; }
  void write(const Record& record) override {
    if (const auto* ended = std::get_if<StageEndedRecord>(&record)) ends.push_back(*ended);
    if (std::holds_alternative<FileRecord>(record)) ++files;
    if (const auto* given = std::get_if<ModelRecord>(&record)) model = *given;
  }
  void flush() override {}
  std::vector<StageEndedRecord> ends;
  int files = 0;
  ModelRecord model;
};

TEST(Watching, ARunTellsWhatItWas) {
  const TempDir dir;
  auto options = quiet(dir);
  options.name = "line";
  options.quiet = options.enable_model_summary = true;  // what is not printed is on the page
  const auto kinds = std::make_shared<Kinds>();
  options.sinks = {kinds};
  Trainer trainer(options);
  trainer.fit<Line>({.lr = 0.2}, points(), points(16, false));
  const auto card = read_run_card(trainer.run_dir());
  EXPECT_EQ(card.name, "line");
  EXPECT_EQ(card.version, "version_0");
  EXPECT_EQ(card.status, RunStatus::finished);
  EXPECT_EQ(card.stage, "fit");
  EXPECT_EQ(card.progress.global_step, 8);
  EXPECT_EQ(card.total_batches, 8);
  EXPECT_TRUE(card.metrics.contains("val_loss"));
  EXPECT_EQ(card.options["model"]["lr"], 0.2);
  EXPECT_EQ(card.defaults["model"]["lr"], 0.1);
  EXPECT_EQ(card.options["trainer"]["seed"], 7);
  EXPECT_EQ(card.model.parameters, 2);
  EXPECT_FALSE(card.checkpoints.empty());
  EXPECT_EQ(card.best_checkpoint, trainer.best_model_path());
  EXPECT_FALSE(card.command.empty());
  EXPECT_EQ(card.environment.devices.front(), "cpu");
  const auto page = content_of(trainer.run_dir() / "report.html");
  EXPECT_THAT(page, HasSubstr("val_loss"));
  EXPECT_EQ(kinds->ends.size(), 1u);
  EXPECT_EQ(kinds->ends[0].status, RunStatus::finished);
  EXPECT_GT(kinds->files, 0);
  EXPECT_EQ(kinds->model.layers.size(), 1u);

  trainer.test(points(16, false));
  const auto tested = read_run_card(trainer.run_dir());
  EXPECT_EQ(tested.id, card.id);
  EXPECT_EQ(tested.stage, "test");
  EXPECT_EQ(tested.started, card.started);
  EXPECT_TRUE(tested.metrics.contains("test_loss"));
  EXPECT_EQ(tested.phases.size(), 2u);
  EXPECT_THAT(content_of(trainer.run_dir() / "report.html"), HasSubstr("train_loss")) << "the curves of fit stay";
}

/// Looks at the run's files when it is told that they are complete.
struct Sender : Sink {
  explicit Sender(fs::path root) : folder(std::move(root)) {}
  std::string name() const override { return "sender"; }
  void write(const Record&) override {}
  void flush() override {}
  void files_are_complete() override {
    cards.push_back(read_run_card(folder));
    page = content_of(folder / "report.html");
    if (is_broken) throw std::runtime_error("nobody takes them");
  }
  fs::path folder;
  std::vector<RunCard> cards;
  std::string page;
  bool is_broken = false;
};

TEST(Watching, SinksGetTheFilesOfARunAsTheyStay) {
  const TempDir dir;
  auto options = quiet(dir);
  options.name = "line";
  const auto sender = std::make_shared<Sender>(dir / "line" / "version_0");
  options.sinks = {sender};
  Trainer trainer(options);
  trainer.fit<Line>({}, points(), points(16, false));
  ASSERT_EQ(sender->cards.size(), 1u);
  EXPECT_EQ(sender->cards[0].status, RunStatus::finished);
  EXPECT_EQ(sender->cards[0].best_checkpoint, trainer.best_model_path());
  EXPECT_THAT(sender->page, HasSubstr("\"status\":\"finished\""));
  EXPECT_EQ(to_json(sender->cards[0]), to_json(read_run_card(trainer.run_dir())));

  sender->is_broken = true;
  testing::internal::CaptureStderr();
  EXPECT_THROW(trainer.fit<Breaks>({}, points()), RunError);
  const std::string warning = "the sink sender could not take the run's files: nobody takes them";
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(warning));
  ASSERT_EQ(sender->cards.size(), 2u);
  EXPECT_EQ(sender->cards[1].status, RunStatus::failed);
  EXPECT_THAT(read_run_card(trainer.run_dir()).warnings, testing::Contains(warning));
  EXPECT_EQ(read_run_card(trainer.run_dir()).status, RunStatus::failed);
}

TEST(Watching, ThePhasesOfARunAddUpToItsTime) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  trainer.fit<Line>({}, points(), points(16, false));
  const auto card = read_run_card(trainer.run_dir());
  ASSERT_EQ(card.phases.size(), 1u);
  const auto& fit = card.phases[0];
  EXPECT_EQ(fit.stage, "fit");
  EXPECT_EQ(fit.batches, 8);
  EXPECT_THAT(names_of(fit.phases), IsSupersetOf({"forward", "backward", "optimizer", "validation", "start-up"}));
  const double sum = std::accumulate(fit.phases.begin(), fit.phases.end(), 0.0,
                                     [](double all, const PhaseTime& phase) { return all + phase.seconds; });
  EXPECT_NEAR(sum, fit.seconds, 0.01 * fit.seconds);
}

TEST(Watching, ARunWithMaxTimeSaysThatItEndsByThen) {
  struct Watches : Line {
    using Line::Line;
    void on_train_epoch_start() override {
      if (!std::filesystem::exists(trainer().run_dir() / "run.json")) return;  // the recorder has a thread of its own
      const auto card = read_run_card(trainer().run_dir());
      if (!card.seconds_left || !card.total_batches) return;  // no rate yet
      seconds_left = card.seconds_left;
      total_batches = card.total_batches;
      trainer().request_stop("seen");
    }
    std::optional<double> seconds_left;
    std::optional<int64_t> total_batches;
  };
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 1'000'000'000;
  options.max_time = "00:00:01:00";
  Trainer trainer(options);
  const auto module = trainer.fit<Watches>({}, points());
  ASSERT_TRUE(module->seconds_left);
  EXPECT_LE(*module->seconds_left, 60);
  EXPECT_GT(*module->seconds_left, 0);
  ASSERT_TRUE(module->total_batches);
  EXPECT_LT(*module->total_batches, 1'000'000'000) << "the epochs will not be made";
}

// The books are closed by then, and sinks were told of a good end.
TEST(Watching, AFailureBehindTheEndOfAStageComesToTheSinks) {
  struct FailsLate : Monitor {
    Decision decide(Moment, const Progress&, const MetricMap&) override { return {}; }
    void run_ended() override { throw std::runtime_error("late"); }
  };
  struct BadSink : Sink {
    std::string name() const override { return "bad"; }
    void write(const Record& record) override { ends += std::holds_alternative<StageEndedRecord>(record); }
    void flush() override {
      if (ends > 0) throw std::runtime_error("the server says no");
    }
    int ends = 0;
  };
  const auto told_with = [](auto change) {
    const TempDir dir;
    auto options = quiet(dir);
    const auto kinds = std::make_shared<Kinds>();
    options.sinks = {kinds};
    change(options);
    Trainer trainer(options);
    EXPECT_THROW(trainer.fit<Line>({}, points()), RunError);
    std::vector<std::string> told;
    for (const auto& end : kinds->ends) told.push_back(name_of(end.status) + std::string(": ") + end.message);
    return testing::PrintToString(told);
  };
  const auto fail_late = [](TrainerOptions& options) { options.callbacks.push_back(std::make_shared<FailsLate>()); };
  EXPECT_THAT(told_with(fail_late), testing::AllOf(HasSubstr("finished: "), HasSubstr("failed: late (in ")));
  const auto bad = std::make_shared<BadSink>();
  EXPECT_THAT(told_with([&](TrainerOptions& options) { options.sinks.push_back(bad); }),
              testing::AllOf(HasSubstr("finished: "), HasSubstr("failed: the server says no (in logger bad")));
  EXPECT_EQ(bad->ends, 1) << "what has thrown gets nothing more";
  EXPECT_EQ(told_with([&](TrainerOptions& options) {
              fail_late(options);
              options.logger = false;
            }),
            "{}");
}

TEST(Watching, AFailureIsToldWithItsPlace) {
  const TempDir dir;
  Trainer trainer(quiet(dir));
  EXPECT_THROW(trainer.fit<Breaks>({}, points()), RunError);
  const auto card = read_run_card(trainer.run_dir());
  EXPECT_EQ(card.status, RunStatus::failed);
  ASSERT_TRUE(card.failure);
  EXPECT_EQ(card.failure->hook, "training_step");
  EXPECT_EQ(card.failure->batch_idx, 2);
  const auto failure = nlohmann::json::parse(content_of(trainer.run_dir() / "failure.json"));
  EXPECT_EQ(failure["batch"], 2);
  EXPECT_EQ(failure["host"], card.environment.host);
  EXPECT_EQ(failure["device"], "cpu");
  EXPECT_EQ(failure["message"], "the third batch is <b>bad</b>");
  const auto page = content_of(trainer.run_dir() / "report.html");
  EXPECT_THAT(page, HasSubstr("the third batch is "));
  EXPECT_THAT(page, Not(HasSubstr("<b>bad</b>")));
}

TEST(Watching, APageThatCannotBeWrittenIsAWarning) {
  const TempDir dir;
  auto options = quiet(dir);
  struct InTheWay : Line {
    using Line::Line;
    void on_train_start() override { fs::create_directories(trainer().run_dir() / "report.html" / "folder"); }
  };
  testing::internal::CaptureStderr();
  Trainer trainer(options);
  trainer.fit<InTheWay>({}, points());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("report.html of the run cannot be written"));
  EXPECT_EQ(read_run_card(trainer.run_dir()).status, RunStatus::finished);
}

TEST(Watching, ARunThatIsRefusedSaysWhy) {
  const TempDir dir;
  auto options = quiet(dir);
  options.loggers = {"mlflow"};
  options.mlflow.uri = "ftp://somewhere";
  Trainer trainer(options);
  const auto why = error_of([&] { trainer.fit<Line>({}, points()); });
  const auto card = read_run_card(trainer.run_dir());
  EXPECT_EQ(card.status, RunStatus::failed);
  EXPECT_EQ(card.message, why);
  EXPECT_THAT(why, HasSubstr("ftp://somewhere"));
}

TEST(Watching, LoggersAreChosenByName) {
  const TempDir dir;
  auto options = quiet(dir);
  options.loggers = {"jsonl"};
  Trainer trainer(options);
  trainer.fit<Line>({}, points());
  EXPECT_TRUE(fs::exists(trainer.run_dir() / "metrics.jsonl"));
  EXPECT_FALSE(fs::exists(trainer.run_dir() / "metrics.csv"));
  options.loggers = {"csv", "tensorbord"};
  EXPECT_THAT(error_of([&] { Trainer refused(options); }), HasSubstr("did you mean 'tensorboard'?"));
  options.loggers = {"csv", "csv"};
  EXPECT_THAT(error_of([&] { Trainer refused(options); }), HasSubstr("'csv' twice"));
}

}  // namespace
}  // namespace troupe
