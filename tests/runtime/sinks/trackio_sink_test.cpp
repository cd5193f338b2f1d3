// Reads what the sink writes with trackio itself, and writes beside it.
#include "troupe/runtime/sinks/trackio_sink.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <torch/torch.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

double one_more_millisecond() {
  static double now = 1700000000;
  return now += 0.001;
}

RunCard card_of_mlp() {
  RunCard card;
  card.id = "0123456789abcdef0123456789abcdef";
  card.name = "mlp";
  card.version = "version_3";
  card.options = {{"trainer", {{"max_epochs", 3}, {"layers", {1, 2}}}}, {"model", {{"lr", 0.5}, {"bad\xFF", "x\xFF"}}}};
  return card;
}

TrackioOptions in_folder(const TempDir& dir) {
  TrackioOptions options;
  options.dir = dir.path();
  return options;
}

json trackio_reads(const TempDir& dir, const std::string& project) {
  return json::parse(python_output("read_trackio.py", "'" + dir.path().string() + "' " + project));
}

ScalarsRecord loss_at(int64_t step) {
  return {.step = step, .epoch = -1, .values = {{"loss", static_cast<double>(step) / 2}}};
}

// Somebody else in the middle of a write.
class OtherWriter {
 public:
  explicit OtherWriter(const fs::path& path) {
    sqlite3_open(path.c_str(), &database_);
    run("BEGIN IMMEDIATE");
  }
  ~OtherWriter() {
    run("COMMIT");
    sqlite3_close(database_);
  }

 private:
  void run(const char* sql) { EXPECT_EQ(sqlite3_exec(database_, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sql; }
  sqlite3* database_ = nullptr;
};

TEST(TrackioSink, IsReadByTrackio) {
  TempDir dir;
  const double inf = std::numeric_limits<double>::infinity();
  TrackioSink sink(in_folder(dir), card_of_mlp(), {}, one_more_millisecond);
  sink.write(HparamsRecord{{{"hidden", 128}, {"limit", inf}}});
  sink.write(ScalarsRecord{.step = 9, .epoch = 1, .values = {{"loss", 0.25}, {"step", 7}, {"x', 1); --", 1}}});
  sink.write(ScalarsRecord{.step = 19, .epoch = -1, .values = {{"loss", std::nan("")}, {"up", inf}, {"down", -inf}}});
  sink.write(TextRecord{.step = 19, .tag = "sample", .text = "*Größe*"});
  sink.write(HistogramRecord{.step = 19, .tag = "weights", .values = torch::ones({2})});
  sink.flush();
  EXPECT_EQ(sink.path(), dir / "mlp.db");
  auto read = trackio_reads(dir, "mlp");
  EXPECT_EQ(read["projects"], json::parse(R"(["mlp"])"));
  ASSERT_THAT(read["runs"], SizeIs(1));
  auto run = read["runs"][0];
  EXPECT_EQ(run["id"], "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(run["name"], "version_3");
  EXPECT_EQ(run["config"]["trainer.max_epochs"], 3);
  EXPECT_EQ(run["config"]["trainer.layers"], json::parse("[1, 2]"));
  EXPECT_EQ(run["config"]["model.lr"], 0.5);
  EXPECT_EQ(run["config"]["model.hidden"], 128);
  EXPECT_EQ(run["config"]["status"], "running");
  EXPECT_TRUE(run["config"].contains("_Created"));
  ASSERT_THAT(run["logs"], SizeIs(3));
  EXPECT_EQ(run["logs"][0]["step"], 9);
  EXPECT_EQ(run["logs"][0]["loss"], 0.25);
  EXPECT_EQ(run["logs"][0]["__step"], 7.0);
  EXPECT_EQ(run["logs"][0]["epoch"], 1.0);
  EXPECT_EQ(run["logs"][0]["x', 1); --"], 1.0);
  EXPECT_THAT(run["logs"][0]["timestamp"].get<std::string>(), testing::StartsWith("2023-11-14T22:13:20.00"));
  EXPECT_NE(run["logs"][0]["timestamp"], run["logs"][1]["timestamp"]);
  EXPECT_EQ(run["logs"][1]["loss"], "nan");
  EXPECT_EQ(run["logs"][1]["up"], "inf");
  EXPECT_EQ(run["logs"][1]["down"], "-inf");
  EXPECT_EQ(run["logs"][2]["sample"]["_value"], "*Größe*");
  EXPECT_EQ(read["loss"], json::parse(R"([[9, 0.25], [19, "nan"]])"));

  sink.write(StageEndedRecord{
      .stage = Stage::fit, .status = RunStatus::failed, .step = 20, .metrics = {}, .message = "no more"});
  run = trackio_reads(dir, "mlp")["runs"][0];
  EXPECT_EQ(run["config"]["status"], "failed");
  EXPECT_EQ(run["config"]["message"], "no more");
  EXPECT_EQ(run["alerts"],
            json::parse(R"([{"title": "fit failed", "text": "no more", "level": "error", "step": 20}])"));
}

TEST(TrackioSink, WritesAProjectThatTrackioWritesAtTheSameTime) {
  TempDir dir;
  constexpr int64_t rows = 200;
  std::thread other([&] { python_output("write_trackio.py", "'" + dir.path().string() + "' mlp python 200"); });
  {
    TrackioSink sink(in_folder(dir), card_of_mlp());
    for (int64_t step = 0; step < rows; ++step) {
      sink.write(loss_at(step));
      sink.flush();
    }
    sink.write(StageEndedRecord{});
  }
  other.join();
  const auto runs = trackio_reads(dir, "mlp")["runs"];
  ASSERT_THAT(runs, SizeIs(2));
  for (const auto& run : runs) {
    ASSERT_EQ(run["logs"].size(), static_cast<std::size_t>(rows)) << run["name"];
    for (std::size_t i = 0; i < run["logs"].size(); ++i) {
      EXPECT_EQ(run["logs"][i]["step"], i);
      EXPECT_EQ(run["logs"][i]["loss"], static_cast<double>(i) / 2);
    }
  }
}

TEST(TrackioSink, KeepsRowsWhileAnotherProcessHoldsTheProjectAndWarnsOnce) {
  TempDir dir;
  std::vector<std::string> warnings;
  TrackioSink sink(in_folder(dir), card_of_mlp(), [&](const std::string& text) { warnings.push_back(text); });
  sink.write(loss_at(0));
  sink.flush();
  {
    const OtherWriter other(sink.path());
    for (int64_t step = 1; step < 3000; ++step) sink.write(loss_at(step));
    sink.flush();
    sink.flush();
  }
  EXPECT_THAT(warnings, ElementsAre(AllOf(HasSubstr("mlp.db"), HasSubstr("locked"), HasSubstr("the run goes on"))));
  const int lock = ::open((dir / "mlp.lock").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(lock, LOCK_EX | LOCK_NB), 0);
  sink.flush();
  ::close(lock);
  sink.flush();
  EXPECT_EQ(sink.lost(), 0);
  EXPECT_THAT(warnings, SizeIs(1));
  EXPECT_EQ(trackio_reads(dir, "mlp")["runs"][0]["logs"].size(), 3000u);
}

TEST(TrackioSink, LosesTheOldestRowsIfItIsNeverLetIn) {
  TempDir dir;
  std::vector<std::string> warnings;
  {
    std::optional<OtherWriter> other;
    TrackioSink sink(in_folder(dir), card_of_mlp(), [&](const std::string& text) { warnings.push_back(text); });
    other.emplace(sink.path());
    for (int64_t step = 0; step < 100'100; ++step) sink.write(loss_at(step));
    EXPECT_GT(sink.lost(), 100);
  }
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("the run goes on"), HasSubstr("100100 rows were not written")));
}

TEST(TrackioSink, GivesARunWithoutACardAnIdOfItsOwnAndADefaultName) {
  TempDir dir;
  auto options = in_folder(dir);
  options.project = "my model.v2";
  options.run_name = "first";
  TrackioSink first(options, {}), second(options, {});
  EXPECT_EQ(first.path(), dir / "mymodelv2.db");
  EXPECT_THAT(first.run_id(), SizeIs(32));
  EXPECT_NE(first.run_id(), second.run_id());
  options.project.clear();
  EXPECT_EQ(TrackioSink(options, {}).path(), dir / "default.db");
}

std::string trackio_message(const TrackioOptions& options) {
  try {
    TrackioSink sink(options, card_of_mlp());
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(TrackioSink, RefusesNamesThatTrackioRefuses) {
  TempDir dir;
  auto options = in_folder(dir);
  options.project = "registry-x";
  EXPECT_THAT(trackio_message(options), HasSubstr("'registry-x'"));
  options.project = "mlp_artifacts";
  EXPECT_THAT(trackio_message(options), AllOf(HasSubstr("'mlp_artifacts'"), HasSubstr("'_artifacts'")));
  options.project = "größe";
  EXPECT_THAT(trackio_message(options), HasSubstr("ASCII"));
  EXPECT_THAT(fs::directory_iterator(dir.path()), testing::Eq(fs::directory_iterator()));
}

TEST(TrackioSink, LeavesFilesAloneThatAreNoProject) {
  TempDir dir;
  const std::string foreign(5000, 'x');
  put(dir / "mlp.db", foreign);
  EXPECT_THAT(trackio_message(in_folder(dir)), AllOf(HasSubstr("mlp.db"), HasSubstr("no project of Trackio's")));
  EXPECT_EQ(content_of(dir / "mlp.db"), foreign);
  fs::remove(dir / "mlp.db");
  sqlite3* old = nullptr;
  sqlite3_open((dir / "mlp.db").c_str(), &old);
  sqlite3_exec(old, "CREATE TABLE metrics (run_name TEXT, step INTEGER, metrics TEXT)", nullptr, nullptr, nullptr);
  sqlite3_close(old);
  EXPECT_THAT(trackio_message(in_folder(dir)), AllOf(HasSubstr("run_id"), HasSubstr("0.24")));
  auto options = in_folder(dir);
  options.dir = dir / "mlp.db" / "sub";
  EXPECT_THAT(trackio_message(options), AllOf(HasSubstr("mlp.db/sub"), HasSubstr("cannot create")));
}

TEST(TrackioSink, FindsTheFolderOfTheProjectsAsTrackioDoes) {
  EXPECT_EQ(trackio_folder("here"), "here");
  for (const char* name : {"TRACKIO_DIR", "HF_HOME", "XDG_CACHE_HOME"}) {
    if (std::getenv(name)) GTEST_SKIP() << name << " is set";  // NOLINT(concurrency-mt-unsafe)
  }
  EXPECT_THAT(trackio_folder("").string(), testing::EndsWith("/.cache/huggingface/trackio"));
}

}  // namespace
}  // namespace troupe
