// Reads what the sink writes with Python.
#include "troupe/runtime/sinks/json_lines_sink.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/python_output.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <sys/resource.h>

namespace troupe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

double quarter_past() {
  return 1700000000.25;
}

json lines_in_python(const fs::path& path, const std::string& with = "") {
  return json::parse(python_output("read_json_lines.py", "'" + path.string() + "' " + with));
}

std::string json_lines_message(const fs::path& folder) {
  try {
    JsonLinesSink sink(folder);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(JsonLinesSink, WritesAnObjectForEachRecord) {
  TempDir dir;
  JsonLinesSink sink(dir / "run", {}, quarter_past);
  sink.write(HparamsRecord{{{"hidden", 128}}});
  sink.write(ScalarsRecord{.step = 9, .epoch = 0, .values = {{"train_loss", 0.5}, {"lr", 1e-5}}});
  sink.write(ScalarsRecord{.step = 10, .epoch = -1, .values = {{"train_loss", 3}}});
  sink.write(ScalarsRecord{.step = 11, .epoch = -1, .values = {}});
  sink.write(TextRecord{.step = 9, .tag = "sample", .text = "Once\n\"upon\"\t"});
  sink.write(HistogramRecord{.step = 7, .tag = "weights", .values = torch::ones({2})});
  sink.write(FileRecord{"checkpoints/last.safetensors"});
  sink.write(StageEndedRecord{
      .stage = Stage::fit, .status = RunStatus::finished, .step = 40, .metrics = {{"a", 1}}, .message = ""});
  sink.flush();
  EXPECT_EQ(sink.path(), dir / "run/metrics.jsonl");
  EXPECT_EQ(content_of(sink.path()),
            R"({"time":1700000000.250000,"hparams":{"hidden":128}}
{"step":9,"epoch":0,"time":1700000000.250000,"values":{"train_loss":0.5,"lr":1e-05}}
{"step":10,"time":1700000000.250000,"values":{"train_loss":3}}
{"step":9,"time":1700000000.250000,"text":{"sample":"Once\n\"upon\"\u0009"}}
{"time":1700000000.250000,"file":"checkpoints/last.safetensors"}
{"step":40,"time":1700000000.250000,"ended":{"stage":"fit","status":"finished","metrics":{"a":1},"message":""}}
)");
  const auto read = lines_in_python(sink.path(), "pandas");
  EXPECT_EQ(read["records"][3]["text"]["sample"], "Once\n\"upon\"\t");
  EXPECT_EQ(read["curves"]["train_loss"], json::parse("[[9, 0.5], [10, 3.0]]"));
}

TEST(JsonLinesSink, WritesNumbersThatPythonReadsAsTheSameDoubles) {
  TempDir dir;
  JsonLinesSink sink(dir.path());
  const std::vector<double> values{1.0 / 3, 5e-324, std::numeric_limits<double>::max(), -0.0, 1e22, 123456789012345680};
  for (const double value : values) sink.write(ScalarsRecord{.step = 0, .values = {{"x", value}}});
  sink.flush();
  const auto read = lines_in_python(sink.path())["curves"]["x"];
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(read[i][1].get<double>(), values[i]);
}

TEST(JsonLinesSink, WritesWhatIsNotFiniteAsTextThatFloatReads) {
  TempDir dir;
  const double inf = std::numeric_limits<double>::infinity();
  JsonLinesSink sink(dir.path());
  sink.write(ScalarsRecord{.step = 2, .values = {{"a", -std::nan("")}, {"b", inf}, {"c", -inf}}});
  sink.flush();
  EXPECT_THAT(content_of(sink.path()), HasSubstr(R"({"a":"NaN","b":"Infinity","c":"-Infinity"})"));
  EXPECT_EQ(lines_in_python(sink.path())["curves"],
            json::parse(R"({"a":[[2,"nan"]],"b":[[2,"inf"]],"c":[[2,"-inf"]]})"));
}

TEST(JsonLinesSink, RepairsNamesAndKeepsTheLastOfOneName) {
  TempDir dir;
  ScalarsRecord many{.step = 1, .values = {}};
  for (int i = 0; i < 40; ++i) many.values.emplace_back("x" + std::to_string(i % 20), i);
  JsonLinesSink sink(dir.path());
  sink.write(
      ScalarsRecord{.step = 0, .values = {{"bad\xFF\x01", 1}, {"Größe", 2}, {"a\\b", 3}, {"twice", 4}, {"twice", 5}}});
  sink.write(many);
  sink.flush();
  EXPECT_THAT(content_of(sink.path()), HasSubstr(R"("twice":5})"));
  EXPECT_THAT(content_of(sink.path()), testing::Not(HasSubstr(R"("twice":4)")));
  const auto read = lines_in_python(sink.path())["curves"];
  EXPECT_EQ(read["bad\uFFFD\u0001"], json::parse("[[0, 1.0]]"));
  EXPECT_EQ(read["Größe"], json::parse("[[0, 2.0]]"));
  EXPECT_EQ(read["a\\b"], json::parse("[[0, 3.0]]"));
  EXPECT_EQ(read["x19"], json::parse("[[1, 39.0]]"));
}

TEST(JsonLinesSink, ContinuesAFileAndRemovesALineThatWasCutShort) {
  TempDir dir;
  const std::string whole = "{\"step\":0,\"time\":1.0,\"values\":{\"a\":1}}\n";
  const std::string filler(200'000, 'x');
  const auto continued = [&](const std::string& before) {
    put(dir / "metrics.jsonl", before);
    JsonLinesSink(dir.path(), {}, quarter_past).write(ScalarsRecord{.step = 1, .values = {{"a", 2}}});
    return content_of(dir / "metrics.jsonl");
  };
  const std::string added = "{\"step\":1,\"time\":1700000000.250000,\"values\":{\"a\":2}}\n";
  EXPECT_EQ(continued(""), added);
  EXPECT_EQ(continued(whole), whole + added);
  EXPECT_EQ(continued(whole + "{\"step\":1,\"ti"), whole + added);
  EXPECT_EQ(continued(whole + "{\"step\":1,\"text\":{\"a\":\"" + filler), whole + added);
  EXPECT_EQ(continued(whole + whole.substr(0, whole.size() - 1)), whole + whole + added);
  EXPECT_EQ(continued("{\"st"), added);
}

TEST(JsonLinesSink, LeavesAFileAloneThatHoldsSomethingElse) {
  TempDir dir;
  for (const std::string foreign : {"epoch,step,a\n0,1,1\n", "{\"name\":1}", "\x7F\x45LF", "\n"}) {
    put(dir / "metrics.jsonl", foreign);
    EXPECT_THAT(json_lines_message(dir.path()), AllOf(HasSubstr("metrics.jsonl"), HasSubstr("move it away")));
    EXPECT_EQ(content_of(dir / "metrics.jsonl"), foreign);
  }
  put(dir / "file", "");
  EXPECT_THAT(json_lines_message(dir / "file/sub"), AllOf(HasSubstr("file/sub"), HasSubstr("Not a directory")));
}

TEST(JsonLinesSink, WarnsOnceOfAFullDiskAndWritesWhatWaitedWhenThereIsRoom) {
  TempDir dir;
  std::vector<std::string> warnings;
  JsonLinesSink sink(dir.path(), [&](const std::string& text) { warnings.push_back(text); });
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  auto limit = before;
  limit.rlim_cur = 1000;
  setrlimit(RLIMIT_FSIZE, &limit);
  for (int step = 0; step < 5000; ++step) sink.write(ScalarsRecord{.step = step, .values = {{"a", step}}});
  sink.flush();
  sink.flush();
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(fs::file_size(sink.path()), 1000u);
  EXPECT_THAT(warnings, ElementsAre(AllOf(HasSubstr("metrics.jsonl"), HasSubstr("the run goes on"))));
  sink.flush();
  EXPECT_EQ(lines_in_python(sink.path())["curves"]["a"].size(), 5000u);
  EXPECT_EQ(sink.lost(), 0);
}

TEST(JsonLinesSink, LosesTheNewestLinesIfTheDiskStaysFullAndSaysHowMany) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  TempDir dir;
  std::vector<std::string> warnings;
  {
    fs::create_symlink("/dev/full", dir / "metrics.jsonl");
    JsonLinesSink sink(dir.path(), [&](const std::string& text) { warnings.push_back(text); });
    const TextRecord megabyte{.step = 0, .tag = "a", .text = std::string(1 << 20, 'x')};
    for (int i = 0; i < 20; ++i) sink.write(megabyte);
    EXPECT_EQ(sink.lost(), 4);
  }
  // Those that were too many for the memory, and those that waited there until the end.
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("No space left"), HasSubstr("20 records were not written")));
}

TEST(JsonLinesSink, ShowsLinesToReadersAfterAFlush) {
  TempDir dir;
  JsonLinesSink sink(dir.path());
  sink.write(ScalarsRecord{.step = 0, .values = {{"a", 1}}});
  EXPECT_THAT(content_of(sink.path()), IsEmpty());
  sink.flush();
  EXPECT_THAT(content_of(sink.path()), HasSubstr("\"a\":1"));
}

}  // namespace
}  // namespace troupe
