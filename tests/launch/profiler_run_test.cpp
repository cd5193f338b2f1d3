// Whole runs under trainer.profiler: what is in the trace, and in which lane.
#include "tests/support/file_content.hpp"
#include "tests/support/lines.hpp"
#include "tests/support/program.hpp"
#include "tests/support/python_output.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace troupe {
namespace {

/// A line with a scope of its own, validation data and a fetcher.
struct ScopedLine : Line {
  StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
    const auto scope = profile("the line");
    return Line::training_step(batch, batch_idx);
  }
  void on_train_batch_end(const StepOutput&, const Batch&, int64_t) override { (void)torch::ones({3}); }
};

struct TraceEvent {
  std::string name, category;
  double begin = 0, end = 0;
  int64_t batch = -1;
};

/// By the lane's name.
using TraceLanes = std::map<std::string, std::vector<TraceEvent>>;

TraceLanes lanes_of(const std::filesystem::path& path) {
  const auto trace = nlohmann::json::parse(content_of(path));
  std::map<int64_t, std::string> names;
  TraceLanes lanes;
  for (const auto& event : trace.at("traceEvents")) {
    const auto lane = event.at("tid").get<int64_t>();
    if (event.at("ph") == "M") {
      if (event.at("name") == "thread_name") names[lane] = event.at("args").at("name");
      continue;
    }
    EXPECT_EQ(event.at("ph"), "X");
    TraceEvent read{event.at("name"), event.at("cat"), event.at("ts")};
    read.end = read.begin + event.at("dur").get<double>();
    if (event.contains("args")) read.batch = event.at("args").at("batch");
    lanes[names.at(lane)].push_back(read);
  }
  return lanes;
}

/// Two spans of a lane lie beside each other or one within the other: browsers show nothing else.
void expect_nested(const std::vector<TraceEvent>& events, const std::string& lane) {
  constexpr double rounding = 1e-3;
  std::vector<TraceEvent> open;
  for (const auto& event : events) {
    while (!open.empty() && open.back().end <= event.begin + rounding) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(event.end, open.back().end + rounding) << lane << ": " << event.name << " in " << open.back().name;
    }
    open.push_back(event);
  }
}

std::vector<TraceEvent> of_name(const std::vector<TraceEvent>& events, const std::string& name) {
  std::vector<TraceEvent> found;
  std::ranges::copy_if(events, std::back_inserter(found), [&](const TraceEvent& each) { return each.name == name; });
  return found;
}

/// How many events named `name` lie in those named `around`.
int64_t count_within(const std::vector<TraceEvent>& events, const std::string& name, const std::string& around) {
  int64_t count = 0;
  for (const auto& outer : of_name(events, around)) {
    count += std::ranges::count_if(events, [&](const TraceEvent& each) {
      return each.name == name && each.begin >= outer.begin && each.end <= outer.end;
    });
  }
  return count;
}

TrainerOptions profiled(const TempDir& dir, Profiler profiler) {
  auto options = quiet(dir);
  options.profiler = profiler;
  options.accelerator = Accelerator::cpu;
  options.num_threads = 1;
  return options;
}

DataLoader fetched_points() {
  const auto x = torch::linspace(-1, 1, 64).unsqueeze(1);
  return {std::make_shared<TensorDataset>(x, 2 * x + 1), {.batch_size = 16, .num_workers = 1}};
}

TEST(ProfilerRun, TheTraceHasALaneForEachMemberOfTheCast) {
  const TempDir dir;
  Trainer trainer(profiled(dir, Profiler::trace));
  trainer.add_actor("mine", [](const Event&, RunHandle&) { (void)torch::ones({2}); });
  trainer.fit(std::make_shared<ScopedLine>(), fetched_points(), points());
  const auto lanes = lanes_of(trainer.run_dir() / "trace.json");
  for (const char* name : {"worker 0", "coordinator", "logger", "checkpointer", "loader of train",
                           "fetcher 0 of the loader of train", "loader of validate", "actor mine"}) {
    EXPECT_TRUE(lanes.contains(name)) << name;
  }
  for (const auto& [name, events] : lanes) expect_nested(events, name);
  const auto& worker = lanes.at("worker 0");
  EXPECT_EQ(of_name(worker, "training batch").size(), 8U);
  EXPECT_EQ(of_name(worker, "training batch").back().batch, 7);
  EXPECT_EQ(of_name(worker, "validation batch").size(), 2U + 2 * 4U);  // with the sanity check
  EXPECT_EQ(count_within(worker, "training_step", "training batch"), 8);
  EXPECT_EQ(count_within(worker, "the line", "training_step"), 8);
  EXPECT_EQ(count_within(worker, "aten::addmm", "the line"), 8);
  EXPECT_EQ(count_within(worker, "AddmmBackward0", "backward"), 8);
  EXPECT_EQ(count_within(worker, "aten::ones", "on_train_batch_end"), 8);
  EXPECT_EQ(of_name(lanes.at("fetcher 0 of the loader of train"), "fetch batch").size(), 8U);
  EXPECT_FALSE(of_name(lanes.at("coordinator"), "Done").empty());
  EXPECT_FALSE(of_name(lanes.at("checkpointer"), "SaveSnapshot").empty());
  EXPECT_FALSE(of_name(lanes.at("actor mine"), "TrainBatchEnded").empty());
}

TEST(ProfilerRun, PythonReadsTheTraceAndFindsItNested) {
  const TempDir dir;
  Trainer trainer(profiled(dir, Profiler::trace));
  trainer.fit(std::make_shared<ScopedLine>(), points());
  const auto path = trainer.run_dir() / "trace.json";
  const auto said = nlohmann::json::parse(python_output("read_trace.py", "'" + path.string() + "'"));
  EXPECT_EQ(said.at("not_nested"), 0);
  EXPECT_EQ(said.at("calls").at("worker 0").at("training batch"), 8);
}

// The same in the engine of those who open it: what the page finds is what --dump-dom prints.
constexpr const char* trace_page = R"(<!doctype html><title>trace</title><body><script>
const ask = new XMLHttpRequest();
ask.open("GET", "trace.json", false);
ask.send();
const events = JSON.parse(ask.responseText).traceEvents, names = {}, open = {};
let spans = 0, bad = 0;
for (const e of events) {
  if (e.ph === "M") {
    if (e.name === "thread_name") names[e.tid] = e.args.name;
    continue;
  }
  ++spans;
  const begin = Math.round(1000 * e.ts), end = begin + Math.round(1000 * e.dur), stack = open[e.tid] ??= [];
  while (stack.length && stack.at(-1) <= begin) stack.pop();
  if (!(e.tid in names) || !(e.dur >= 0) || (stack.length && end > stack.at(-1))) ++bad;
  stack.push(end);
}
document.body.textContent = `spans=${spans} bad=${bad} lanes=${Object.values(names).sort().join()} done`;
</script>)";

TEST(ProfilerRun, ABrowserReadsTheTrace) {
  const TempDir dir;
  Trainer trainer(profiled(dir, Profiler::trace));
  trainer.fit(std::make_shared<ScopedLine>(), points());
  const auto page = trainer.run_dir() / "page.html";
  put(page, trace_page);
  const auto browser = run_program(
      "timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --allow-file-access-from-files"
      " --user-data-dir='" +
      (dir / "browser").string() + "' --dump-dom 'file://" + page.string() + "' 2>/dev/null");
  ASSERT_EQ(browser.status, 0) << "chromium (launch/setup --dev installs it)";
  const auto at = browser.output.find("spans=");
  ASSERT_NE(at, std::string::npos) << browser.output;
  const std::string said = browser.output.substr(at);
  EXPECT_GT(std::stoi(said.substr(6)), 200) << said;
  EXPECT_NE(said.find(" bad=0 "), std::string::npos) << said;
  EXPECT_NE(said.find("worker 0 done"), std::string::npos) << said;
}

TEST(ProfilerRun, OnlyTheBatchesThatWereAskedForAreInIt) {
  const TempDir dir;
  auto options = profiled(dir, Profiler::trace);
  options.profile_steps = "3-5";
  Trainer trainer(options);
  trainer.fit(std::make_shared<ScopedLine>(), points());
  const auto lanes = lanes_of(trainer.run_dir() / "trace.json");
  const auto batches = of_name(lanes.at("worker 0"), "training batch");
  ASSERT_EQ(batches.size(), 3U);
  EXPECT_EQ(batches.front().batch, 3);
  EXPECT_EQ(batches.back().batch, 5);
  for (const auto& [name, events] : lanes) expect_nested(events, name);
}

TEST(ProfilerRun, TheTableOfOperatorsHasTheScopesAndTheCalls) {
  const TempDir dir;
  Trainer trainer(profiled(dir, Profiler::operators));
  ::testing::internal::CaptureStdout();
  trainer.fit(std::make_shared<ScopedLine>(), points());
  const std::string said = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(said.find("AddmmBackward0"), std::string::npos) << said;
  EXPECT_NE(said.find("the line (scope)"), std::string::npos) << said;
  EXPECT_NE(said.find(content_of(trainer.run_dir() / "operators.txt")), std::string::npos) << said;
  const auto table = nlohmann::json::parse(content_of(trainer.run_dir() / "operators.json"));
  std::map<std::string, int64_t> calls;
  for (const auto& row : table.at("operators")) calls[row.at("name")] = row.at("calls");
  EXPECT_EQ(calls.at("aten::addmm"), 8);
  EXPECT_EQ(calls.at("MseLossBackward0"), 8);
  EXPECT_EQ(calls.at("the line"), 8);
  EXPECT_FALSE(std::filesystem::exists(trainer.run_dir() / "trace.json"));
}

TEST(ProfilerRun, ReplayedStepsShowTheirOperators) {
  const TempDir dir;
  auto options = profiled(dir, Profiler::trace);
  options.capture_step = CaptureStep::require;
  options.profile_steps = "5-7";
  Trainer trainer(options);
  trainer.fit(std::make_shared<Line>(), points());
  const auto lanes = lanes_of(trainer.run_dir() / "trace.json");
  const auto& worker = lanes.at("worker 0");
  expect_nested(worker, "worker 0");
  EXPECT_EQ(count_within(worker, "aten::addmm", "training batch"), 3);
  EXPECT_GE(count_within(worker, "aten::mse_loss", "training_step"), 3);
  EXPECT_TRUE(of_name(worker, "AddmmBackward0").empty());  // a replay has no graph
}

TEST(ProfilerRun, EachStageHasFilesOfItsOwn) {
  const TempDir dir;
  auto options = profiled(dir, Profiler::trace);
  Trainer trainer(options);
  trainer.fit(std::make_shared<Line>(), points());
  trainer.test(points());
  EXPECT_EQ(of_name(lanes_of(trainer.run_dir() / "trace.json").at("worker 0"), "training batch").size(), 8U);
  EXPECT_EQ(of_name(lanes_of(trainer.run_dir() / "trace_test.json").at("worker 0"), "test batch").size(), 4U);
}

TEST(ProfilerRun, ARunThatFailsHasItsTrace) {
  struct Breaks : Line {
    StepOutput training_step(const Batch& batch, int64_t batch_idx) override {
      if (batch_idx == 2) throw std::runtime_error("broken");
      return Line::training_step(batch, batch_idx);
    }
  };
  const TempDir dir;
  Trainer trainer(profiled(dir, Profiler::trace));
  EXPECT_NE(error_of([&] { trainer.fit(std::make_shared<Breaks>(), points()); }).find("broken"), std::string::npos);
  const auto lanes = lanes_of(trainer.run_dir() / "trace.json");
  EXPECT_EQ(of_name(lanes.at("worker 0"), "training batch").size(), 3U);
  for (const auto& [name, events] : lanes) expect_nested(events, name);
}

TEST(ProfilerRun, ARunWithoutFilesHasAFolderForItsTrace) {
  const TempDir dir;
  auto options = profiled(dir, Profiler::trace);
  options.fast_dev_run = 1;
  Trainer trainer(options);
  trainer.fit(std::make_shared<Line>(), points());
  EXPECT_TRUE(std::filesystem::exists(trainer.run_dir() / "trace.json"));
}

TEST(ProfilerRun, WeightsAreThoseOfARunWithoutAProfiler) {
  std::vector<double> weights;
  for (const Profiler profiler : {Profiler::off, Profiler::operators, Profiler::trace}) {
    const TempDir dir;
    Trainer trainer(profiled(dir, profiler));
    torch::manual_seed(7);
    trainer.fit(std::make_shared<ScopedLine>(), points());
    weights.push_back(std::dynamic_pointer_cast<Line>(trainer.module())->weight());
  }
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_EQ(weights[0], weights[2]);
}

}  // namespace
}  // namespace troupe
