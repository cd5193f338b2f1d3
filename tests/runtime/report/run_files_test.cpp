#include "troupe/runtime/report/run_files.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class RunFilesTest : public testing::Test {
 protected:
  RunFiles files(const fs::path& folder) {
    return RunFiles({}, {.folder = folder, .clock = [this] { return now_; }});
  }
  TempDir dir_;
  double now_ = 1000;
};

TEST_F(RunFilesTest, TheCardIsThereFromTheStartAndRenewedWhenItIsDue) {
  auto all = files(dir_.path());
  all.begin_stage(Stage::fit);
  EXPECT_EQ(read_run_card(dir_.path()).status, RunStatus::running);
  all.take(RunNews{.progress = Progress{.global_step = 7}});
  EXPECT_FALSE(all.write_if_due());
  EXPECT_FALSE(fs::exists(dir_ / "report.html"));
  now_ += 1;
  EXPECT_TRUE(all.write_if_due());
  EXPECT_TRUE(fs::exists(dir_ / "report.html")) << "nobody waits long for the first page";
  EXPECT_EQ(read_run_card(dir_.path()).progress.global_step, 0);
  now_ += 1;
  EXPECT_TRUE(all.write_if_due());
  EXPECT_EQ(read_run_card(dir_.path()).progress.global_step, 7);
  all.take(ScalarsRecord{1, 0, {{"train_loss", 0.5}}}, now_);
  now_ += 3;
  EXPECT_FALSE(all.write_if_due());
  now_ += 1;
  EXPECT_TRUE(all.write_if_due());
  EXPECT_THAT(content_of(dir_ / "report.html"), HasSubstr("train_loss"));
  now_ += 40;
  EXPECT_FALSE(all.write_if_due()) << "nothing is new";
  now_ += 20;
  EXPECT_TRUE(all.write_if_due()) << "a sign of life, a minute after the stage began";
  EXPECT_EQ(read_run_card(dir_.path()).updated, now_);
}

TEST_F(RunFilesTest, ItsFolderIsLockedWhileAStageGoesOn) {
  auto all = files(dir_.path());
  all.begin_stage(Stage::fit);
  EXPECT_FALSE(RunLock(dir_.path()).holds());
  EXPECT_TRUE(read_run_card(dir_.path()).owner.holds_lock);
  all.end_stage(RunStatus::finished, "");
  EXPECT_TRUE(RunLock(dir_.path()).holds());
  all.begin_stage(Stage::test);
  EXPECT_EQ(read_run_card(dir_.path()).status, RunStatus::running);
  EXPECT_FALSE(RunLock(dir_.path()).holds());
}

TEST_F(RunFilesTest, TheEndOfAStageWritesEverything) {
  auto all = files(dir_.path());
  all.begin_stage(Stage::fit);
  all.take(RunNews{.total_batches = 30, .seconds_left = 12.5});
  EXPECT_EQ(all.card().seconds_left, 12.5);
  all.take(ScalarsRecord{1, 0, {{"train_loss", 0.5}}}, now_);
  all.take(RunNews{.metrics = MetricMap{{"train_loss", 0.5}}, .warning = "the disk is slow"});
  all.end_stage(RunStatus::interrupted, "interrupted by SIGINT");
  const auto card = read_run_card(dir_.path());
  EXPECT_EQ(card.status, RunStatus::interrupted);
  EXPECT_EQ(card.message, "interrupted by SIGINT");
  EXPECT_EQ(card.ended, now_);
  EXPECT_EQ(card.total_batches, 30);
  EXPECT_FALSE(card.seconds_left) << "there is nothing left of it";
  EXPECT_THAT(card.warnings, ElementsAre("the disk is slow"));
  EXPECT_THAT(content_of(dir_ / "report.html"), HasSubstr("train_loss"));
}

TEST_F(RunFilesTest, AFailureIsWrittenAtOnceAndTakenBackByTheNextStage) {
  auto all = files(dir_.path());
  all.begin_stage(Stage::fit);
  all.take(RunNews{.failure = Failure{3, "node7", "cuda:1", "fit", "training_step", 2, 5, "no memory"}});
  const auto failure = nlohmann::json::parse(content_of(dir_ / "failure.json"));
  EXPECT_EQ(failure["rank"], 3);
  EXPECT_EQ(failure["hook"], "training_step");
  EXPECT_EQ(failure["message"], "no memory");
  EXPECT_TRUE(failure["signal"].is_null());
  all.end_stage(RunStatus::failed, "no memory");
  EXPECT_EQ(read_run_card(dir_.path()).failure->epoch, 2);
  all.begin_stage(Stage::test);
  EXPECT_FALSE(fs::exists(dir_ / "failure.json"));
  EXPECT_FALSE(read_run_card(dir_.path()).failure);
}

TEST_F(RunFilesTest, AFailureOfTheOnlyProcessHasTheNameOfItsHost) {
  RunCard card;
  card.environment.host = "node3";
  RunFiles all(card, {.folder = dir_.path(), .clock = [this] { return now_; }});
  all.begin_stage(Stage::fit);
  all.take(RunNews{.failure = Failure{.message = "no memory"}});
  all.end_stage(RunStatus::failed, "no memory");
  EXPECT_EQ(nlohmann::json::parse(content_of(dir_ / "failure.json"))["host"], "node3");
  EXPECT_EQ(read_run_card(dir_.path()).failure->host, "node3");
}

TEST_F(RunFilesTest, CheckpointsThatWereDeletedAreForgotten) {
  auto all = files(dir_.path());
  all.begin_stage(Stage::fit);
  put(dir_ / "a", "");
  put(dir_ / "b", "");
  all.take(RunNews{.checkpoints = {dir_ / "a", dir_ / "b"}, .best_checkpoint = dir_ / "b"});
  fs::remove(dir_ / "a");
  all.end_stage(RunStatus::finished, "");
  EXPECT_THAT(read_run_card(dir_.path()).checkpoints, ElementsAre(dir_ / "b"));
}

TEST_F(RunFilesTest, WhatCannotBeWrittenIsSaidOnceAndTriedAgain) {
  const auto folder = dir_ / "run";
  fs::create_directory(folder);
  auto all = files(folder);
  all.begin_stage(Stage::fit);
  fs::create_directory(folder / "report.html");  // nothing can take its place
  put(folder / "report.html" / "file", "");
  all.take(RunNews{.progress = Progress{.global_step = 7}});
  now_ += 10;
  all.write_if_due();
  EXPECT_THAT(all.take_problem(), HasSubstr("report.html of the run cannot be written, and the run goes on: "));
  all.take(RunNews{.progress = Progress{.global_step = 8}});
  now_ += 10;
  all.write_if_due();
  EXPECT_EQ(all.take_problem(), "");
  fs::remove_all(folder / "report.html");
  all.end_stage(RunStatus::finished, "");
  EXPECT_TRUE(fs::is_regular_file(folder / "report.html"));
}

TEST_F(RunFilesTest, WithoutAFolderNothingIsWritten) {
  auto all = files("");
  all.begin_stage(Stage::fit);
  all.take(RunNews{.failure = Failure{}});
  all.end_stage(RunStatus::failed, "");
  EXPECT_EQ(all.card().status, RunStatus::failed);
  EXPECT_EQ(all.take_problem(), "");
}

TEST_F(RunFilesTest, WarningsAreKeptUpToAHundred) {
  auto all = files("");
  for (int i = 0; i < 130; ++i) all.take(RunNews{.warning = std::to_string(i)});
  EXPECT_EQ(all.card().warnings.size(), 100u);
  EXPECT_EQ(all.card().more_warnings, 30);
}

}  // namespace
}  // namespace troupe
