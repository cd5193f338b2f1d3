#include "troupe/runtime/terminal/run_summary.hpp"

#include "tests/support/temp_dir.hpp"

#include <gtest/gtest.h>

#include <fstream>

namespace troupe {
namespace {

RunCard card_of_fit() {
  RunCard card;
  card.status = RunStatus::finished;
  card.stage = "fit";
  card.progress.epoch = 2;
  card.progress.global_step = 250;
  card.metrics = {{"train_loss", 0.74512}, {"val_acc", 0.942}, {"val_loss", 0.19871}};
  return card;
}

PhaseReport phases_of_fit() {
  PhaseReport report;
  report.stage = "fit";
  report.seconds = 12.5;
  report.batches = 250;
  report.phases = {{"waiting for data", 7.75, 250, 0.1},
                   {"backward", 2.5, 250, 0.1},
                   {"forward", 1.25, 250, 0.1},
                   {"optimizer", 0.9, 250, 0.1},
                   {"rest", 0.1, 1, 0.1}};
  report.advice = "62 % waiting for data: raise data.num_workers from 0";
  return report;
}

void touch(const std::filesystem::path& path) {
  std::ofstream file(path);
}

TEST(RunSummary, SaysWhatWasCapturedAndWhatItCosts) {
  CapturedProgram program;
  program.step = "training_step";
  program.operators = 14;
  program.recorded = 30;
  program.views = 15;
  program.constants = 1;
  program.bytes = 52'700;
  program.plain_bytes = 51'400;
  program.replays = 248;
  EXPECT_EQ(run_summary(card_of_fit(), {.captured = {program}}),
            "fit finished in 00:00: 2 epochs, 250 steps\n"
            "metrics:         train_loss=0.7451, val_acc=0.942, val_loss=0.1987\n"
            "captured:        training_step: 14 operators, was 30 (left out: 15 of views and\n"
            "                 memory, 1 constant, 0 unused); 52.7 kB, was 51.4 kB; 248\n"
            "                 replays\n");
  auto text = run_summary(card_of_fit(), {.captured = std::vector(6, program)});
  EXPECT_NE(text.find("captured:        and 2 more\n"), std::string::npos) << text;
}

TEST(RunSummary, SaysWhatAFitHasLeftBehind) {
  const TempDir dir;
  touch(dir / "report.html");
  auto card = card_of_fit();
  card.phases = {phases_of_fit()};
  card.best_checkpoint = "runs/digits/version_0/checkpoints/epoch=1-step=250.safetensors";
  EXPECT_EQ(run_summary(card, {.folder = dir.path(),
                               .monitor = "val_loss",
                               .monitor_value = 0.19871,
                               .first_metrics = {"val_loss", "gone"}}),
            "fit finished in 00:12: 2 epochs, 250 steps\n"
            "metrics:         val_loss=0.1987, train_loss=0.7451, val_acc=0.942\n"
            "time:            waiting for data 62 %, backward 20 %, forward 10 %,\n"
            "                 optimizer 7 %\n"
            "                 62 % waiting for data: raise data.num_workers from 0\n"
            "best val_loss:   0.1987\n"
            "best checkpoint: runs/digits/version_0/checkpoints/epoch=1-step=250.safetensors\n"
            "run:             " +
                dir.path().string() + "\npage:            " + (dir / "report.html").string() + "\n");
}

TEST(RunSummary, LeavesOutWhatIsNotThere) {
  auto card = card_of_fit();
  card.metrics.clear();
  card.progress = {};
  card.progress.epoch = card.progress.global_step = 1;
  EXPECT_EQ(run_summary(card, {.seconds = 3723}), "fit finished in 1:02:03: 1 epoch, 1 step\n");
}

TEST(RunSummary, NamesTheFilesOfAFailure) {
  const TempDir dir;
  auto card = card_of_fit();
  card.status = RunStatus::failed;
  card.metrics.clear();
  const std::string run = "run:             " + dir.path().string() + "\n";
  EXPECT_EQ(run_summary(card, {.folder = dir.path(), .seconds = 5}),
            "fit failed after 00:05: 2 epochs, 250 steps\n" + run);
  touch(dir / "failure.json");
  EXPECT_EQ(run_summary(card, {.folder = dir.path(), .seconds = 5}),
            "fit failed after 00:05: 2 epochs, 250 steps\n" + run +
                "failure:         " + (dir / "failure.json").string() + "\n");
  card.status = RunStatus::finished;
  EXPECT_EQ(run_summary(card, {.folder = dir.path(), .seconds = 5}),
            "fit finished in 00:05: 2 epochs, 250 steps\n" + run);
}

TEST(RunSummary, ColoursOnlyWhatWentWrong) {
  auto card = card_of_fit();
  card.metrics.clear();
  EXPECT_EQ(run_summary(card, {.colours = true, .seconds = 5}), "fit finished in 00:05: 2 epochs, 250 steps\n");
  card.status = RunStatus::failed;
  EXPECT_EQ(run_summary(card, {.colours = true, .seconds = 5}),
            "fit \x1b[31mfailed\x1b[0m after 00:05: 2 epochs, 250 steps\n");
  card.status = RunStatus::interrupted;
  EXPECT_EQ(run_summary(card, {.colours = true, .seconds = 5}),
            "fit \x1b[33mwas interrupted\x1b[0m after 00:05: 2 epochs, 250 steps\n");
}

TEST(RunSummary, IsShortOfAnEvaluation) {
  auto card = card_of_fit();
  card.stage = "test";
  card.best_checkpoint = "best.safetensors";
  PhaseReport report;
  report.stage = "test";
  report.seconds = 3;
  report.batches = 79;
  report.phases = {{"forward", 3, 79, 0.1}};
  card.phases = {phases_of_fit(), report};
  EXPECT_EQ(run_summary(card, {}), "test finished in 00:03: 79 batches\ntime:            forward 100 %\n");
}

TEST(RunSummary, ShowsTenMetricsAndBreaksLongLines) {
  auto card = card_of_fit();
  card.metrics.clear();
  for (char name = 'a'; name < 'm'; ++name) card.metrics["metric_" + std::string(1, name)] = 1234567;
  card.metrics["metric_b"] = std::nan("");
  card.metrics["損失"] = 1;
  EXPECT_EQ(run_summary(card, {.width = 60, .seconds = 5, .first_metrics = {"損失", "metric_l"}}),
            "fit finished in 00:05: 2 epochs, 250 steps\n"
            "metrics:         損失=1, metric_l=1.235e+06,\n"
            "                 metric_a=1.235e+06, metric_b=nan,\n"
            "                 metric_c=1.235e+06, metric_d=1.235e+06,\n"
            "                 metric_e=1.235e+06, metric_f=1.235e+06,\n"
            "                 metric_g=1.235e+06, metric_h=1.235e+06,\n"
            "                 and 3 more\n");
}

TEST(RunSummary, KeepsOddTextOnItsLine) {
  auto card = card_of_fit();
  card.metrics = {{"two\nlines", 1}};
  card.best_checkpoint = "a\x1b[31m.safetensors";
  EXPECT_EQ(run_summary(card, {.seconds = 5}),
            "fit finished in 00:05: 2 epochs, 250 steps\n"
            "metrics:         two lines=1\n"
            "best checkpoint: a [31m.safetensors\n");
}

}  // namespace
}  // namespace troupe
