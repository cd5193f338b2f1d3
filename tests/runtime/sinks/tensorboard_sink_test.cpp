// Reads what the sink writes with the tensorboard package itself.
#include "troupe/runtime/sinks/tensorboard_sink.hpp"

#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

double noon() {
  return 1700000000.25;
}

json read_back(const fs::path& folder) {
  return json::parse(python_output("read_tensorboard.py", "'" + folder.string() + "'"));
}

TEST(TensorBoardSink, IsReadByTensorBoard) {
  TempDir dir;
  TensorBoardSink sink(dir / "run", noon);
  double inf = std::numeric_limits<double>::infinity();
  auto image = torch::arange(0, 2 * 3 * 4, torch::kUInt8).reshape({4, 2, 3});
  sink.write(HparamsRecord{{{"lr", 0.5},
                            {"optim", {{"name", "adam"}, {"fused", true}}},
                            {"layers", {16, 10}},
                            {"limit", inf},
                            {"none", nullptr}}});
  sink.write(ScalarsRecord{.step = 3, .epoch = 1, .values = {{"loss", 0.25}, {"bad\xFF", -inf}}});
  sink.write(ScalarsRecord{.step = 4, .epoch = -1, .values = {{"loss", 0.125}}});
  sink.write(HistogramRecord{.step = 7, .tag = "weights", .values = torch::arange(0, 60).to(torch::kFloat32)});
  sink.write(HistogramRecord{.step = 7, .tag = "empty", .values = torch::zeros({0})});
  sink.write(ImageRecord{.step = 8, .tag = "rgba", .image = image});
  sink.write(ImageRecord{.step = 8, .tag = "grey", .image = torch::tensor({0.0, 1.0}).reshape({1, 1, 2})});
  sink.write(TextRecord{.step = 9, .tag = "note", .text = "# Größe"});
  sink.flush();
  json read = read_back(dir / "run");

  EXPECT_EQ(read["scalars"]["loss"], json::parse("[[1700000000.25, 3, 0.25], [1700000000.25, 4, 0.125]]"));
  EXPECT_EQ(read["scalars"]["epoch"], json::parse("[[1700000000.25, 3, 1.0]]"));
  EXPECT_EQ(read["scalars"]["bad\uFFFD"][0][2], "-inf");

  auto weights = read["histograms"]["weights"][0];
  EXPECT_EQ(weights[0], 7);
  EXPECT_EQ(weights[1]["num"], 60.0);
  EXPECT_EQ(weights[1]["max"], 59.0);
  EXPECT_EQ(weights[1]["bucket"].size(), 31u);
  EXPECT_EQ(weights[1]["bucket"][30], 2.0);
  EXPECT_EQ(weights[1]["bucket_limit"][30], 59.0);
  EXPECT_EQ(read["histograms"]["empty"][0][1]["num"], 0.0);

  EXPECT_EQ(read["images"]["rgba"]["size"], json::parse("[2, 3]"));
  auto pixels = image.permute({1, 2, 0});
  for (int64_t y = 0; y < 2; ++y) {
    for (int64_t x = 0; x < 3; ++x) {
      for (int64_t c = 0; c < 4; ++c) {
        EXPECT_EQ(read["images"]["rgba"]["pixels"][y][x][c], pixels[y][x][c].item<int>());
      }
    }
  }
  EXPECT_EQ(read["images"]["grey"]["pixels"], json::parse("[[0, 255]]"));
  EXPECT_EQ(read["texts"]["note/text_summary"], json::parse("[9, \"# Größe\"]"));

  EXPECT_EQ(read["hparams"], json::parse(R"({"lr": 0.5, "optim/name": "adam", "optim/fused": true,
                                                       "layers": "[16,10]", "limit": "inf", "none": "null"})"));
}

// What its tabs show of the runs below `logdir`.
json tabs_of(const fs::path& logdir) {
  return json::parse(python_output("read_tensorboard_tabs.py", "'" + logdir.string() + "'"));
}

void write_steps(TensorBoardSink& sink, const std::string& tag, const std::vector<int64_t>& steps) {
  for (const auto step : steps) sink.write(ScalarsRecord{step, -1, {{tag, static_cast<double>(step)}}});
}

TEST(TensorBoardSink, CountsATagOnWhoseStepsBeginAnewInALaterStage) {
  TempDir dir;
  {
    TensorBoardSink sink(dir / "run", noon);
    write_steps(sink, "actor", {0, 10, 20});
    write_steps(sink, "placed", {0, 10, 20});
    write_steps(sink, "behind", {0, 1, 2});
    sink.write(TextRecord{4, "note", "a"});
    sink.write(HistogramRecord{4, "weights", torch::ones({2})});
    sink.write(StageEndedRecord{});
    write_steps(sink, "behind", {3});  // of the stage that has ended
    write_steps(sink, "actor", {0, 10, 20});
    write_steps(sink, "behind", {0, 1});
    write_steps(sink, "placed", {20, 30});
    sink.write(TextRecord{0, "note", "b"});
    sink.write(HistogramRecord{2, "weights", torch::ones({2})});
    sink.write(StageEndedRecord{});
    write_steps(sink, "actor", {5, 6});
    write_steps(sink, "placed", {40});
  }
  const auto shown = tabs_of(dir.path());
  EXPECT_EQ(shown["scalars"]["actor"], json::parse("[0, 10, 20, 21, 31, 41, 42, 43]"));
  EXPECT_EQ(shown["scalars"]["placed"], json::parse("[0, 10, 20, 30, 40]"));
  EXPECT_EQ(shown["scalars"]["behind"], json::parse("[0, 1, 2, 3, 4, 5]"));
  EXPECT_EQ(shown["histograms"]["weights"], json::parse("[4, 5]"));
}

TEST(TensorBoardSink, MovesAPointThatComesLateToTheLastStepOfItsTag) {
  TempDir dir;
  {
    TensorBoardSink sink(dir / "run", noon);
    write_steps(sink, "late", {0, 1, 5, 2, 3, 6});
    // Of several values only those move that have to. An epoch that comes late is left out: it is not that of the last
    // step.
    sink.write(ScalarsRecord{.step = 4, .epoch = 1, .values = {{"late", 1}, {"other", 2}}});
    sink.write(ScalarsRecord{.step = 3, .epoch = 0, .values = {{"third", 3}}});
  }
  const auto shown = tabs_of(dir.path())["scalars"];
  EXPECT_EQ(shown["late"], json::parse("[0, 1, 5, 6]"));
  EXPECT_EQ(shown["other"], json::parse("[4]"));
  EXPECT_EQ(shown["third"], json::parse("[3]"));
  EXPECT_EQ(shown["epoch"], json::parse("[4]"));
  const auto all = read_back(dir / "run")["scalars"];
  EXPECT_EQ(all["late"].size(), 7u);
  EXPECT_EQ(all["epoch"], json::parse("[[1700000000.25, 4, 1.0]]"));
}

TEST(TensorBoardSink, PutsTrainingAndEvaluationOfOneMetricOnOneChart) {
  TempDir dir;
  TensorBoardSink sink(dir / "run", noon);
  sink.write(ScalarsRecord{.step = 0, .epoch = 0, .values = {{"train_loss_step", 1}, {"lr", 1}}});
  sink.flush();
  EXPECT_EQ(tabs_of(dir.path())["layout"], json::object());
  sink.write(
      ScalarsRecord{.step = 1, .epoch = 0, .values = {{"val_loss/dataloader_idx_0", 1}, {"train_loss_epoch", 1}}});
  sink.flush();
  sink.write(ScalarsRecord{.step = 2, .epoch = 0, .values = {{"acc", 1}, {"Test/acc", 1}, {"lonely", 1}}});
  sink.flush();
  const auto layout = tabs_of(dir.path())["layout"];
  ASSERT_EQ(layout["category"].size(), 1u);
  EXPECT_EQ(layout["category"][0]["title"], "training and evaluation");
  EXPECT_EQ(layout["category"][0]["chart"], json::parse(R"([
      {"title": "acc", "multiline": {"tag": ["^acc$", "^Test\\/acc$"]}},
      {"title": "loss", "multiline":
        {"tag": ["^train_loss_step$", "^val_loss\\/dataloader_idx_0$", "^train_loss_epoch$"]}}])"));
}

TEST(TensorBoardSink, ShowsHowARunWithHparamsHasEnded) {
  const auto status_after = [](const std::vector<StageEndedRecord>& ends) {
    TempDir dir;
    {
      TensorBoardSink sink(dir / "run", noon);
      sink.write(HparamsRecord{{{"lr", 0.5}}});
      sink.write(HparamsRecord{{{"lr", 0.25}}});
      sink.write(ScalarsRecord{.step = 3, .epoch = -1, .values = {{"val_loss", 0.5}}});
      sink.write(ScalarsRecord{.step = 6, .epoch = -1, .values = {{"val_loss", 0.25}}});
      for (const auto& end : ends) sink.write(end);
    }
    const auto sessions = tabs_of(dir.path())["sessions"];
    EXPECT_EQ(sessions.size(), 1u);
    EXPECT_EQ(sessions[0]["hparams"], json::parse(R"(["lr"])"));
    EXPECT_EQ(sessions[0]["metrics"], json::parse(R"({"val_loss": [6, 0.25]})"));
    EXPECT_EQ(sessions[0]["has_times"], !ends.empty());
    return sessions[0]["status"].get<std::string>();
  };
  const auto ended = [](Stage stage, RunStatus status) {
    return StageEndedRecord{.stage = stage, .status = status, .step = 7, .metrics = {}, .message = ""};
  };
  EXPECT_EQ(status_after({}), "STATUS_UNKNOWN");
  EXPECT_EQ(status_after({ended(Stage::fit, RunStatus::finished)}), "STATUS_SUCCESS");
  EXPECT_EQ(status_after({ended(Stage::validate, RunStatus::finished), ended(Stage::fit, RunStatus::failed)}),
            "STATUS_FAILURE");
  EXPECT_EQ(status_after({ended(Stage::test, RunStatus::finished)}), "STATUS_SUCCESS");
  EXPECT_EQ(status_after({ended(Stage::fit, RunStatus::interrupted)}), "STATUS_UNKNOWN");
  EXPECT_EQ(status_after({ended(Stage::fit, RunStatus::finished), ended(Stage::fit, RunStatus::failed)}),
            "STATUS_FAILURE")
      << "it failed when its end was told";
}

TEST(TensorBoardSink, ShowsTheEndOfARunOnceItIsFinal) {
  const auto status_of = [](RunStatus status, bool are_files_complete) {
    TempDir dir;
    TensorBoardSink sink(dir / "run", noon);
    sink.write(HparamsRecord{{{"lr", 0.5}}});
    sink.write(StageEndedRecord{.stage = Stage::fit, .status = status, .step = 7, .metrics = {}, .message = ""});
    sink.flush();
    if (are_files_complete) sink.files_are_complete();
    return tabs_of(dir.path())["sessions"][0]["status"].get<std::string>();
  };
  EXPECT_EQ(status_of(RunStatus::failed, false), "STATUS_FAILURE");
  EXPECT_EQ(status_of(RunStatus::finished, false), "STATUS_UNKNOWN") << "it may still fail";
  EXPECT_EQ(status_of(RunStatus::finished, true), "STATUS_SUCCESS");
}

TEST(TensorBoardSink, ShowsTheOptionsAsATextWithThoseFirstThatDifferFromTheDefaults) {
  TempDir dir;
  fs::create_directory(dir / "run");
  std::ofstream(dir / "run" / "config.toml") << "[trainer]\nmax_epochs = 3\n# ```\n";
  RunCard card;
  card.options = {{"trainer", {{"max_epochs", 3}, {"name", "a|b`c"}, {"seed", 7}}}};
  card.defaults = {{"trainer", {{"max_epochs", 1000}, {"name", ""}, {"seed", 7}}}};
  {
    TensorBoardSink sink(dir / "run", card, noon);
    sink.write(ScalarsRecord{.step = 0, .epoch = -1, .values = {{"a", 1}}});
  }
  const auto text = tabs_of(dir.path())["texts"]["options/text_summary"].get<std::string>();
  EXPECT_THAT(text,
              AllOf(HasSubstr("<td><code>trainer.max_epochs</code></td>"), HasSubstr("<td><code>3</code></td>"),
                    HasSubstr("<td><code>1000</code></td>"), HasSubstr("a|b'c"), HasSubstr("[trainer]\nmax_epochs")));
  EXPECT_THAT(text, testing::Not(HasSubstr("trainer.seed")));
}

TEST(TensorBoardSink, LosesOnlyALastRecordThatWasCutShort) {
  TempDir dir;
  fs::path path;
  {
    TensorBoardSink sink(dir.path(), noon);
    path = sink.path();
    for (int64_t step = 0; step < 3; ++step) sink.write(ScalarsRecord{.step = step, .values = {{"loss", 1.0}}});
  }
  fs::resize_file(path, fs::file_size(path) - 5);
  EXPECT_EQ(read_back(dir.path())["scalars"]["loss"].size(), 2u);
}

TEST(TensorBoardSink, GivesEverySinkAFileOfItsOwn) {
  TempDir dir;
  TensorBoardSink first(dir.path(), noon), second(dir.path(), noon);
  EXPECT_THAT(first.path().filename().string(), testing::StartsWith("events.out.tfevents.1700000000."));
  EXPECT_NE(first.path(), second.path());
}

TEST(TensorBoardSink, NamesEachFileBehindThoseThatAreThere) {
  TempDir dir;
  std::vector<std::string> names;
  for (int i = 0; i < 12; ++i) names.push_back(TensorBoardSink(dir.path(), noon).path().filename().string());
  names.push_back(TensorBoardSink(dir.path(), [] { return 1600000000.0; }).path().filename().string());
  EXPECT_TRUE(std::ranges::is_sorted(names)) << testing::PrintToString(names);
  EXPECT_THAT(names.back(), testing::StartsWith("events.out.tfevents.1700000012."));
  // What is no file of ours in that, however it is called, is of no account.
  std::ofstream(dir / "events.out.tfevents.99999999999999.host.1.0");
  std::ofstream(dir / "events.out.tfevents.9999999999.host.1.0");
  std::ofstream(dir / "events.out.tfevents.profile-empty");
  EXPECT_THAT(TensorBoardSink(dir.path(), noon).path().filename().string(),
              testing::StartsWith("events.out.tfevents.1700000013."));
}

TEST(TensorBoardSink, ShowsRecordsToReadersAfterAFlush) {
  TempDir dir;
  TensorBoardSink sink(dir.path(), noon);
  auto before = fs::file_size(sink.path());
  sink.write(ScalarsRecord{.step = 0, .values = {{"loss", 1.0}}});
  EXPECT_EQ(fs::file_size(sink.path()), before);
  sink.flush();
  EXPECT_GT(fs::file_size(sink.path()), before);
}

TEST(TensorBoardSink, WritesNothingForRecordsWithoutContent) {
  TempDir dir;
  TensorBoardSink sink(dir.path(), noon);
  auto before = fs::file_size(sink.path());
  sink.write(ScalarsRecord{.step = 0, .epoch = 2, .values = {}});
  sink.write(HparamsRecord{nullptr});
  sink.write(HparamsRecord{json::object()});
  sink.flush();
  EXPECT_EQ(fs::file_size(sink.path()), before);
}

TEST(TensorBoardSink, NamesTheTagThatCannotBeShown) {
  TempDir dir;
  TensorBoardSink sink(dir.path(), noon);
  try {
    sink.write(ImageRecord{.step = 0, .tag = "input", .image = torch::zeros({2, 4, 4})});
    FAIL() << "an image of two channels was accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("'input'"), HasSubstr("[2, 4, 4]")));
  }
}

TEST(TensorBoardSink, SaysWhichFolderCannotBeWrittenAndWhy) {
  TempDir dir;
  std::ofstream(dir / "file") << "";
  try {
    TensorBoardSink sink(dir / "file/run");
    FAIL() << "a folder inside of a file was accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("file/run"), HasSubstr("Not a directory")));
  }
}

}  // namespace
}  // namespace troupe
