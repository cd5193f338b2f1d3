#include "troupe/runtime/sinks/mlflow_values.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace troupe {
namespace {

using testing::ElementsAre;
using testing::Pair;

TEST(MlflowKey, LeavesValidNamesAndReplacesWhatServersRefuse) {
  for (const auto* name : {"loss", "val/acc", "a b", "a.b-c_d:e", "größe", "λ", "lr-Adam/pg1"}) {
    EXPECT_EQ(mlflow_key(name), name);
  }
  EXPECT_EQ(mlflow_key("acc@5"), "acc_5");
  EXPECT_EQ(mlflow_key("/a//b/"), "a/b");
  EXPECT_EQ(mlflow_key("../a/."), "__/a/_");
  EXPECT_EQ(mlflow_key("."), "_");
  EXPECT_EQ(mlflow_key(""), "_");
  EXPECT_EQ(mlflow_key("\xF0\x9F\x98\x80\n\xFF"), "___");
  EXPECT_EQ(mlflow_key(std::string(249, 'a') + "/b"), std::string(249, 'a'));
  EXPECT_EQ(mlflow_key(std::string(300, 'a')).size(), 250U);
}

TEST(MlflowKeys, AreNeverSharedByTwoNames) {
  MlflowKeys keys;
  EXPECT_EQ(keys.of("acc@5"), "acc_5");
  EXPECT_EQ(keys.of("acc_5"), "acc_5_2");
  EXPECT_EQ(keys.of("acc%5"), "acc_5_3");
  EXPECT_EQ(keys.of("acc@5"), "acc_5");
  EXPECT_EQ(keys.of(std::string(250, 'a')), std::string(250, 'a'));
  EXPECT_EQ(keys.of(std::string(251, 'a')), std::string(248, 'a') + "_2");
}

TEST(Flattened, NamesTheWayToEachValue) {
  const nlohmann::json values = {{"trainer", {{"max_epochs", 3}, {"lr", 0.1}, {"loggers", {"csv"}}, {"name", ""}}},
                                 {"seed", nullptr},
                                 {"ok", true},
                                 {"empty", nlohmann::json::object()},
                                 {"nan", std::numeric_limits<double>::quiet_NaN()}};
  EXPECT_THAT(flattened(values),
              ElementsAre(Pair("empty", "{}"), Pair("nan", "nan"), Pair("ok", "true"), Pair("seed", "none"),
                          Pair("trainer.loggers", "[\"csv\"]"), Pair("trainer.lr", "0.1"),
                          Pair("trainer.max_epochs", "3"), Pair("trainer.name", "")));
  EXPECT_TRUE(flattened(nlohmann::json::object()).empty());
  EXPECT_TRUE(flattened(nullptr).empty());
}

TEST(FirstCharacters, CutsBetweenCharacters) {
  EXPECT_EQ(first_characters("größe", 3), "grö");
  EXPECT_EQ(first_characters("ab", 2), "ab");
  EXPECT_EQ(first_characters("ab", 0), "");
}

}  // namespace
}  // namespace troupe
