#include "troupe/runtime/profile/profiling.hpp"

#include "tests/support/file_content.hpp"
#include "tests/support/temp_dir.hpp"
#include "troupe/modules/support/profile.hpp"
#include "troupe/runtime/profile/operator_profiler.hpp"
#include "troupe/runtime/profile/thread_lane.hpp"

#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <utility>

namespace troupe {
namespace {

ProfileSetup profile_of(Profiler kind, const std::filesystem::path& folder = {}) {
  ProfileSetup setup;
  setup.kind = kind;
  setup.folder = folder;
  return setup;
}

std::map<std::string, OperatorRow> rows_of(const Profiling& profiling) {
  std::map<std::string, OperatorRow> rows;
  for (const auto& row : operators_of(profiling).rows) rows[row.name] = row;
  return rows;
}

struct ProfiledLinear {
  torch::nn::Linear layer = torch::nn::Linear(20, 10);
  torch::Tensor x = torch::randn({4, 20});
  void step() { layer(x).sum().backward(); }
};

TEST(Profiling, CountsTheOperatorsOfForwardAndBackward) {
  ProfiledLinear linear;
  linear.step();  // the first one makes gradients
  const auto profiling = Profiling::start(profile_of(Profiler::operators));
  ASSERT_TRUE(profiling);
  for (int i = 0; i < 3; ++i) linear.step();
  (void)profiling->end();
  linear.step();  // is not seen
  const auto rows = rows_of(*profiling);
  for (const char* name : {"aten::t", "aten::addmm", "aten::mm", "AddmmBackward0", "SumBackward0"}) {
    ASSERT_TRUE(rows.contains(name)) << name;
    EXPECT_EQ(rows.at(name).calls, 3) << name;
  }
  EXPECT_EQ(rows.at("aten::addmm").kind, SpanKind::op);
  EXPECT_EQ(rows.at("AddmmBackward0").kind, SpanKind::autograd);
  EXPECT_EQ(rows.at("torch::autograd::AccumulateGrad").calls, 6);  // weight and bias
  EXPECT_GT(rows.at("aten::t").total, rows.at("aten::transpose").total);
  EXPECT_LT(rows.at("aten::t").self, rows.at("aten::t").total);
}

TEST(Profiling, CountsTheMemoryOfAnOperator) {
  const auto profiling = Profiling::start(profile_of(Profiler::operators));
  {
    const TracedWork work(nullptr, SpanKind::message, "work");
    const auto first = torch::empty({1024, 1024});
    const auto second = torch::empty({1024, 1024});
  }
  (void)profiling->end();
  EXPECT_EQ(rows_of(*profiling).at("aten::empty").allocated, 2 * 4 * 1024 * 1024);
  EXPECT_EQ(operators_of(*profiling).peak, 2 * 4 * 1024 * 1024);
}

TEST(Profiling, ScopesOfTheUserAreRowsOfAnyThread) {
  const auto profiling = Profiling::start(profile_of(Profiler::operators));
  const auto scoped = [] {
    const auto scope = profile("attention");
    (void)torch::ones({2});
  };
  scoped();
  std::thread(scoped).join();
  (void)profiling->end();
  scoped();  // nothing is measured
  const auto row = rows_of(*profiling).at("attention");
  EXPECT_EQ(row.calls, 2);
  EXPECT_EQ(row.kind, SpanKind::scope);
  EXPECT_LT(row.self, row.total);
}

TEST(Profiling, AScopeMayOutliveTheProfile) {
  auto profiling = Profiling::start(profile_of(Profiler::trace));
  {
    const auto scope = profile("long");
    (void)profiling->end();
    profiling = nullptr;
    EXPECT_TRUE(Profiling::start(profile_of(Profiler::trace)));
  }
  EXPECT_FALSE(Profiling::is_there());
}

TEST(Profiling, NothingIsInstalledOutsideOfTheBatches) {
  ProfileSetup setup = profile_of(Profiler::operators);
  setup.batches = BatchRange{2, 3};
  const auto profiling = Profiling::start(setup);
  ASSERT_TRUE(profiling);
  ProfiledLinear linear;
  for (int i = 0; i < 6; ++i) {
    const ProfiledBatch batch(Stage::fit, i, /*leads=*/true);
    EXPECT_EQ(at::hasGlobalCallbacks(), i == 2 || i == 3) << i;
    linear.step();
  }
  EXPECT_FALSE(at::hasGlobalCallbacks());
  EXPECT_TRUE(profiling->end().warnings.empty());
  EXPECT_EQ(rows_of(*profiling).at("aten::addmm").calls, 2);
  EXPECT_EQ(operators_of(*profiling).batches, 2);
}

TEST(Profiling, BatchesThatDoNotComeAreAWarning) {
  ProfileSetup setup = profile_of(Profiler::trace);
  setup.batches = BatchRange{100, 120};
  const auto profiling = Profiling::start(setup);
  { const ProfiledBatch batch(Stage::fit, 7, /*leads=*/true); }
  const auto end = profiling->end();
  ASSERT_EQ(end.warnings.size(), 1U);
  EXPECT_NE(end.warnings[0].find("trainer.profile_steps = 100-120"), std::string::npos);
  EXPECT_NE(end.warnings[0].find("the latest one was 7"), std::string::npos);
}

TEST(Profiling, OneAtATime) {
  const auto first = Profiling::start(profile_of(Profiler::trace));
  EXPECT_TRUE(first);
  EXPECT_FALSE(Profiling::start(profile_of(Profiler::trace)));
  (void)first->end();
  const auto second = Profiling::start(profile_of(Profiler::operators));
  ASSERT_TRUE(second);
  (void)torch::ones({2});
  EXPECT_EQ(rows_of(*second).at("aten::ones").calls, 1);
  EXPECT_FALSE(rows_of(*first).contains("aten::ones"));
  EXPECT_FALSE(Profiling::start(profile_of(Profiler::off)));
  EXPECT_FALSE(Profiling::start(profile_of(Profiler::simple)));
}

TEST(Profiling, AFullTraceStopsAndSaysWhichOptionHelps) {
  const TempDir dir;
  ProfileSetup setup = profile_of(Profiler::trace, dir.path());
  setup.most_spans = 2048;
  const auto profiling = Profiling::start(setup);
  for (int i = 0; i < 1000 && Profiling::is_recording(); ++i) {
    const ProfiledBatch batch(Stage::fit, i, /*leads=*/true);
    for (int j = 0; j < 10; ++j) (void)torch::ones({2});
  }
  EXPECT_FALSE(Profiling::is_recording());
  EXPECT_NE(profile_warning().find("trainer.profile_steps"), std::string::npos);
  EXPECT_EQ(profile_warning(), "");
  EXPECT_TRUE(profiling->end().warnings.empty());
  EXPECT_LE(nlohmann::json::parse(content_of(dir / "trace.json"))["traceEvents"].size(), 2048U + 10);
}

TEST(Profiling, TheTableHasTheLongestRowsAndTheNumberOfTheOthers) {
  OperatorTable table;
  table.stage = "fit";
  table.seconds = 1;
  for (int i = 0; i < 40; ++i) table.rows.push_back({"aten::op_" + std::to_string(i), SpanKind::op, 2, 0.01, 0.02, 64});
  const std::string text = to_text(table);
  EXPECT_NE(text.find("aten::op_29 "), std::string::npos);
  EXPECT_EQ(text.find("aten::op_30 "), std::string::npos);
  EXPECT_TRUE(text.ends_with("and 10 more\n"));
  EXPECT_EQ(to_json(table)["operators"].size(), 40U);
}

TEST(Profiling, FilesThatCannotBeWrittenAreAWarning) {
  const TempDir dir;
  const auto profiling = Profiling::start(profile_of(Profiler::trace, dir / "file" / "below"));
  put(dir / "file", "no folder");
  EXPECT_EQ(profiling->end().warnings.size(), 3U);
}

}  // namespace
}  // namespace troupe
