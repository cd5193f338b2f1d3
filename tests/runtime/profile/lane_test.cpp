#include "troupe/runtime/profile/lane.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>

namespace troupe {
namespace {

std::map<std::string, const SpanSums*> sums_by_name(const Lane& lane) {
  std::map<std::string, const SpanSums*> all;
  lane.for_each_sum([&](const SpanSums& sums) { all[sums.name] = &sums; });
  return all;
}

std::vector<std::string> names_of_spans(const Lane& lane) {
  std::vector<std::string> names;
  for (const Span& span : lane.spans()) names.push_back(span.what->name);
  return names;
}

TEST(Lane, SpansWithinOthersLieInThemAndAreTakenOffTheirOwnTime) {
  SpanBudget budget(10'000);
  Lane lane("worker 0", 1, &budget);
  int outer = 0, inner = 0;
  lane.begin(SpanKind::op, "outer", &outer);
  lane.begin(SpanKind::op, "inner", &inner);
  lane.end(&inner);
  lane.end(&outer);
  const auto spans = lane.spans();
  ASSERT_EQ(names_of_spans(lane), (std::vector<std::string>{"inner", "outer"}));
  EXPECT_GE(spans[0].begin, spans[1].begin);
  EXPECT_LE(spans[0].begin + spans[0].duration, spans[1].begin + spans[1].duration);
  const auto sums = sums_by_name(lane);
  EXPECT_EQ(sums.at("outer")->self, sums.at("outer")->total - sums.at("inner")->total);
  EXPECT_EQ(sums.at("inner")->self, sums.at("inner")->total);
}

TEST(Lane, OfCallsWithinEachOtherTheOutermostCountsInTheTotal) {
  Lane lane("worker 0", 1, nullptr);
  int outer = 0, inner = 0;
  lane.begin(SpanKind::op, "add", &outer);
  lane.begin(SpanKind::op, "add", &inner);
  lane.end(&inner);
  lane.end(&outer);
  const auto& sums = *sums_by_name(lane).at("add");
  EXPECT_EQ(sums.calls, 2);
  EXPECT_EQ(sums.self, sums.total);
}

TEST(Lane, TheEndOfASpanEndsWhatIsOpenWithinIt) {
  SpanBudget budget(10'000);
  Lane lane("worker 0", 1, &budget);
  int outer = 0, lost = 0;
  lane.begin(SpanKind::batch, "batch", &outer, 17);
  lane.begin(SpanKind::op, "lost", &lost);
  lane.end(&outer);
  lane.end(&lost);  // it has ended
  EXPECT_EQ(names_of_spans(lane), (std::vector<std::string>{"lost", "batch"}));
  EXPECT_EQ(lane.spans()[1].number, 17);
}

TEST(Lane, HooksFollowEachOtherWithinTheirBatch) {
  SpanBudget budget(10'000);
  Lane lane("worker 0", 1, &budget);
  int batch = 0, op = 0;
  lane.begin(SpanKind::batch, "batch", &batch);
  lane.follow(SpanKind::hook, "training_step");
  lane.begin(SpanKind::op, "add", &op);
  lane.end(&op);
  lane.follow(SpanKind::hook, "backward");
  lane.end(&batch);
  ASSERT_EQ(names_of_spans(lane), (std::vector<std::string>{"add", "training_step", "backward", "batch"}));
  const auto spans = lane.spans();
  EXPECT_LE(spans[1].begin + spans[1].duration, spans[2].begin);
}

TEST(Lane, WithoutABudgetItKeepsSumsAlone) {
  Lane lane("worker 0", 1, nullptr);
  int id = 0;
  lane.begin(SpanKind::op, "add", &id);
  lane.note_allocation(100);
  lane.note_allocation(28);
  lane.end(&id);
  lane.note_allocation(5);  // by nobody
  EXPECT_TRUE(lane.spans().empty());
  EXPECT_EQ(sums_by_name(lane).at("add")->allocated, 128);
}

TEST(Lane, NoMoreSpansAreKeptThanTheBudgetHas) {
  SpanBudget budget(4096);
  Lane lane("worker 0", 1, &budget);
  for (int i = 0; i < 10'000; ++i) {
    lane.begin(SpanKind::op, "add", &i);
    lane.end(&i);
  }
  EXPECT_EQ(lane.spans().size(), 4096U);
  EXPECT_TRUE(budget.is_used_up());
  EXPECT_EQ(sums_by_name(lane).at("add")->calls, 10'000);  // which goes on
}

TEST(Lane, NamesOfScopesAreBounded) {
  Lane lane("worker 0", 1, nullptr);
  for (int i = 0; i < 5000; ++i) {
    lane.begin(SpanKind::scope, "step " + std::to_string(i), &i);
    lane.end(&i);
  }
  const auto sums = sums_by_name(lane);
  EXPECT_EQ(sums.size(), 1001U);
  EXPECT_EQ(sums.at("other scopes")->calls, 4000);
}

TEST(Lane, ReadersSeeWhatHasEndedWhileItsThreadWrites) {
  SpanBudget budget(1'000'000);
  Lane lane("worker 0", 1, &budget);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; i < 20'000; ++i) {
      lane.begin(SpanKind::op, i % 2 == 0 ? "even" : "odd", &i);
      lane.end(&i);
    }
    done = true;
  });
  std::size_t seen = 0;
  while (!done) {
    const auto spans = lane.spans();
    EXPECT_GE(spans.size(), seen);
    seen = spans.size();
    for (const Span& span : spans) ASSERT_TRUE(span.what->name == "even" || span.what->name == "odd");
  }
  writer.join();
  EXPECT_EQ(lane.spans().size(), 20'000U);
}

}  // namespace
}  // namespace troupe
