#include "troupe/runtime/report/run_card.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temp_dir.hpp"

#include "troupe/base/failure_json.hpp"
#include "troupe/base/host_name.hpp"
#include "troupe/base/unix_seconds.hpp"
#include "troupe/runtime/report/failure_file.hpp"
#include "troupe/runtime/report/lost_run.hpp"
#include "troupe/runtime/report/report_page.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace troupe {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

RunCard full_card() {
  RunCard card;
  card.id = "0123456789abcdef0123456789abcdef";
  card.name = "digits";
  card.version = "version_3";
  card.status = RunStatus::failed;
  card.stage = "fit";
  card.message = "no memory";
  card.started = 1.7e9;
  card.updated = 1.7e9 + 61.5;
  card.ended = 1.7e9 + 62;
  card.command = {"./digits", "fit", "--model.lr", "0.1"};
  card.options = {{"trainer", {{"max_epochs", 3}}}, {"model", {{"lr", 0.1}}}};
  card.defaults = {{"trainer", {{"max_epochs", nullptr}}}, {"model", {{"lr", 0.001}}}};
  card.environment = {"node7", "Linux 6.1", "a processor", {"cuda:0", "cuda:1"}, 4, 123, "0.2.0", "2.11.0", "g++ 12",
                      "13.0",  "abcdef",    true};
  card.progress = {2, 5, 17, 25, 20};
  card.total_batches = 30;
  card.seconds_left = 7.5;
  card.metrics = {{"val_acc", 0.1}, {"loss", std::nan("")}, {"up", HUGE_VAL}, {"down", -HUGE_VAL}};
  card.model = {{{"net.0", "Linear", "[32, 784]", "[32, 10]", 7850}}, 7850, 7840};
  card.checkpoints = {"checkpoints/a.safetensors", "checkpoints/b.safetensors"};
  card.best_checkpoint = "checkpoints/a.safetensors";
  card.phases = {{"fit",
                  60,
                  25,
                  {{"forward", 30, 25, 2}, {"backward", 30, 25, 3}},
                  {{"logging", 1, 4, 0.5}},
                  {{"forward", 29, 31, 3}},
                  "62 % waiting for data"}};
  card.warnings = {"one", "two"};
  card.more_warnings = 4;
  card.owner = {123, "0123", "pid:[4026531836]", 77, true};
  card.failure = Failure{1, "node7", "cuda:1", "fit", "training_step", 2, 5, "no memory"};
  card.findings = {
      {"lr_find", "Learning rate", "0.1 it is.", {{"lr", {0.1, 1}}, {"loss", {2.5, std::nan("")}}}, true, 0}};
  return card;
}

TEST(RunCard, ComesBackFromItsFileAsItWas) {
  const TempDir dir;
  write_run_card(full_card(), dir.path());
  const auto back = read_run_card(dir.path());
  EXPECT_EQ(to_json(back), to_json(full_card()));
  EXPECT_TRUE(std::isnan(back.metrics.at("loss")));
  EXPECT_EQ(back.metrics.at("down"), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(back.failure->hook, "training_step");
  EXPECT_EQ(back.phases[0].ranks[0].slowest_rank, 3);
}

TEST(RunCard, TextThatIsNoUtf8DoesNotKeepItFromBeingWritten) {
  const TempDir dir;
  auto card = full_card();
  card.warnings = {"\xff"};
  card.command = {"\xfe"};
  card.metrics["\xfd"] = 1;
  card.failure->message = "\xfc";
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).warnings[0], "\xef\xbf\xbd");
}

TEST(RunCard, OneThatIsDamagedIsRefusedWithItsPath) {
  const TempDir dir;
  EXPECT_THAT(refusal([&] { read_run_card(dir.path()); }), HasSubstr("run.json: No such file or directory"));
  const auto with = [&](const std::string& key, const nlohmann::json& value) {
    auto json = to_json(full_card());
    json[key] = value;
    put(dir / "run.json", json.dump());
    return refusal([&] { read_run_card(dir.path()); });
  };
  EXPECT_THAT(with("status", "well"), HasSubstr("run.json is damaged: status is 'well', which no run has"));
  EXPECT_THAT(with("format", 2), HasSubstr("format"));
  EXPECT_THAT(with("metrics", nlohmann::json::array()), HasSubstr("metrics is not an object"));
  EXPECT_THAT(with("metrics", {{"a", "b"}}), HasSubstr("metrics.a is not a number"));
  EXPECT_THAT(with("phases", {{{"stage", 1}}}), HasSubstr("stage"));
  EXPECT_THAT(with("failure", "none"), HasSubstr("failure"));
  EXPECT_THAT(with("warnings", {1}), HasSubstr("warnings"));
  EXPECT_THAT(with("owner", {{"pid", "one"}}), HasSubstr("owner.pid"));
  auto finding = to_json(full_card())["findings"];
  finding[0]["chosen"] = 2;
  EXPECT_THAT(with("findings", finding), HasSubstr("chosen is none of a finding's rows"));
  finding[0]["columns"][1]["values"] = {1};
  EXPECT_THAT(with("findings", finding), HasSubstr("the columns of a finding differ in length"));
  put(dir / "run.json", "{");
  EXPECT_THAT(refusal([&] { read_run_card(dir.path()); }), EndsWith("run.json: it is not JSON: it ends in the middle"));
}

// A card that says that its run goes on in this process.
RunCard running_card() {
  auto card = full_card();
  card.status = RunStatus::running;
  card.ended.reset();
  card.failure.reset();
  card.environment.host = host_name();
  card.owner = own_process();
  return card;
}

TEST(RunCard, ARunWhoseProcessIsGoneHasFailed) {
  const TempDir dir;
  auto card = running_card();
  const auto status = [&] {
    write_run_card(card, dir.path());
    return read_run_card(dir.path()).status;
  };
  EXPECT_EQ(status(), RunStatus::running);
  card.owner.pid = std::numeric_limits<pid_t>::max();  // above what any kernel gives
  EXPECT_EQ(status(), RunStatus::failed);
  EXPECT_THAT(read_run_card(dir.path()).message, HasSubstr("its process is gone"));
  EXPECT_TRUE(is_lost(read_run_card(dir.path())));
  card.owner.machine = "another";
  card.environment.host = "another";
  EXPECT_EQ(status(), RunStatus::running);
}

TEST(RunCard, ANumberThatAnotherProcessHasNowIsNotTheRuns) {
  const TempDir dir;
  auto card = running_card();
  card.owner.began -= 1;
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::failed);
}

TEST(RunCard, WhatACrashedProcessHasSaidIsWhyARunIsLost) {
  const TempDir dir;
  auto card = running_card();
  card.owner.pid = std::numeric_limits<pid_t>::max();
  const Failure crash{
      .host = card.environment.host, .device = "cpu", .stage = "fit", .message = "the process crashed: SIGSEGV"};
  put(dir / "failure.json", failure_file(crash, "SIGSEGV", 1).dump());
  card.environment.world_size = 1;
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).failure->host, host_name());
  EXPECT_EQ(read_run_card(dir.path()).message, "the process crashed: SIGSEGV (stage fit, rank 0, cpu)");
  card.environment.world_size = 2;
  write_run_card(card, dir.path());
  EXPECT_THAT(read_run_card(dir.path()).message, HasSubstr("rank 0 on " + host_name()));
}

TEST(RunCard, AProcessThatNobodyHasWaitedForIsGone) {
  const TempDir dir;
  auto card = running_card();
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);  // it is a zombie now
  card.owner.pid = child;
  card.owner.began = 0;
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::failed);
  waitpid(child, nullptr, 0);
}

TEST(RunCard, TheLockOfAFolderTellsOfProcessesInOtherContainers) {
  const TempDir dir;
  auto card = running_card();
  card.environment.host = "a container";
  card.owner.processes = "pid:[1]";
  card.owner.holds_lock = true;
  write_run_card(card, dir.path());
  {
    const RunLock lock(dir.path());
    ASSERT_TRUE(lock.holds());
    EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::running);
    EXPECT_FALSE(RunLock(dir.path()).holds());
  }
  EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::failed);
  card.owner.holds_lock = false;  // then nobody knows
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::running);
}

TEST(RunCard, AMachineThatWasStartedAnewHasNoRunsOfBefore) {
  const TempDir dir;
  auto card = running_card();
  card.owner.machine = "0123";
  card.updated = 1000;  // in 1970
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::failed);
  card.updated = unix_seconds();  // another machine of this name
  write_run_card(card, dir.path());
  EXPECT_EQ(read_run_card(dir.path()).status, RunStatus::running);
}

class LostRun : public testing::Test {
 protected:
  LostRun() {
    card_ = running_card();
    card_.owner.pid = std::numeric_limits<pid_t>::max();
    write_run_card(card_, dir_.path());
  }
  std::string page() const { return content_of(dir_ / "report.html"); }

  TempDir dir_;
  RunCard card_;
};

TEST_F(LostRun, GetsItsCardAndItsPageRight) {
  MetricCurves curves;
  curves.add({1, 0, {{"only_on_the_page", 0.25}}});
  write_report_page(std::vector<RunView>{{card_, curves}}, dir_ / "report.html");
  EXPECT_THAT(page(), HasSubstr("\"status\":\"running\""));
  record_if_lost(dir_.path());
  EXPECT_EQ(stored_run_card(dir_.path()).status, RunStatus::failed);
  EXPECT_TRUE(is_lost(stored_run_card(dir_.path())));
  EXPECT_THAT(page(), HasSubstr("\"status\":\"failed\""));
  EXPECT_THAT(page(), HasSubstr("its process is gone"));
  EXPECT_THAT(page(), HasSubstr("only_on_the_page"));
  EXPECT_THAT(page(), Not(HasSubstr("\"status\":\"running\"")));
}

TEST_F(LostRun, HasTheCurvesThatWereWrittenLast) {
  write_report_page(std::vector<RunView>{{card_, MetricCurves()}}, dir_ / "report.html");
  put(dir_ / "metrics.csv", "epoch,step,loss\n0,1,2\n");
  put(dir_ / "failure.json", to_json(Failure{0, "", "cpu", "fit", "training_step", 1, 2, "it crashed"}).dump());
  record_if_lost(dir_.path());
  EXPECT_THAT(page(), HasSubstr("\"name\":\"loss\""));
  EXPECT_THAT(page(), HasSubstr("it crashed"));
}

TEST_F(LostRun, GetsAPageIfItHadNoneYetAndWouldHaveGotOne) {
  record_if_lost(dir_.path());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "report.html"));
  card_.options["trainer"]["logger"] = false;
  write_run_card(card_, dir_.path());
  record_if_lost(dir_.path());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "report.html"));
  card_.options["trainer"]["logger"] = true;
  write_run_card(card_, dir_.path());
  record_if_lost(dir_.path());
  EXPECT_THAT(page(), HasSubstr("its process is gone"));
}

TEST_F(LostRun, IsLeftAloneIfItGoesOnOrItsPageIsNoneOfOurs) {
  put(dir_ / "report.html", "mine");
  record_if_lost(dir_.path());
  EXPECT_EQ(page(), "mine");
  card_.owner = own_process();
  write_run_card(card_, dir_.path());
  record_if_lost(dir_.path());
  EXPECT_EQ(stored_run_card(dir_.path()).status, RunStatus::running);
}

}  // namespace
}  // namespace troupe
