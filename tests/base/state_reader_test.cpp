#include "troupe/base/state_reader.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace troupe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const nlohmann::json saved = {{"name", "x"},        {"count", 3},      {"rate", 0.5},
                              {"on", true},         {"none", nullptr}, {"groups", {{{"lr", 1}}, {{"lr", "fast"}}}},
                              {"names", {"a", "b"}}};

TEST(StateReader, ReadsWhatIsThere) {
  const StateReader reader(saved, "the state");
  EXPECT_EQ(reader.text("name"), "x");
  EXPECT_EQ(reader.count("count", 3, 3), 3);
  EXPECT_EQ(reader.number("rate"), 0.5);
  EXPECT_TRUE(reader.flag("on"));
  EXPECT_EQ(reader.optional_count("none"), std::nullopt);
  EXPECT_EQ(reader.optional_number("count"), 3);
  EXPECT_THAT(reader.texts("names"), ElementsAre("a", "b"));
  EXPECT_EQ(reader.objects("groups")[0].number("lr"), 1);
  EXPECT_FALSE(reader.has("other"));
}

TEST(StateReader, SaysWhatIsWrongAndWhere) {
  const StateReader reader(saved, "the state");
  EXPECT_EQ(refusal([&] { reader.count("count", 4); }), "the state is damaged: count is not a count: 3");
  EXPECT_EQ(refusal([&] { reader.text("other"); }), "the state is damaged: other is not a text: it is missing");
  EXPECT_EQ(refusal([&] { reader.optional_number("other"); }),
            "the state is damaged: other is not a number: it is missing");
  EXPECT_EQ(refusal([&] { reader.objects("groups")[1].number("lr"); }),
            "the state is damaged: groups[1].lr is not a number: \"fast\"");
  EXPECT_EQ(refusal([&] { reader.object("names"); }), "the state is damaged: names is not an object");
  EXPECT_EQ(refusal([&] { reader.numbers("names"); }),
            "the state is damaged: names is not a list of numbers: [\"a\",\"b\"]");
  EXPECT_THAT(refusal([] { StateReader(nlohmann::json::array(), "it"); }), HasSubstr("it is damaged"));
}

TEST(StateReader, RefusesCountsThatNothingCanBeAddedTo) {
  for (const nlohmann::json& count : {nlohmann::json(UINT64_MAX), nlohmann::json(INT64_MAX), nlohmann::json(1e300)}) {
    const nlohmann::json state = {{"count", count}};
    EXPECT_THROW(StateReader(state, "it").count("count", -1), CheckpointError) << count;
  }
}

}  // namespace
}  // namespace troupe
