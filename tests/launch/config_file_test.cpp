#include "troupe/launch/config_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <random>

namespace troupe {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

struct ModelOptions {
  double lr = 1e-3;
  int64_t hidden = 128;
  uint64_t seed = 0;
  bool bias = true;
  std::string text = "";
  std::filesystem::path dir = "data";
  Amount limit = 1.0;
  std::optional<int64_t> every = 1;
  std::optional<std::string> label = std::nullopt;
  std::vector<double> betas = {0.9, 0.999};
  std::vector<std::string> words = {};

  bool operator==(const ModelOptions&) const = default;
};
TROUPE_OPTIONS(ModelOptions, (lr, "learning rate"), (hidden, "units"), (seed, "seed"), (bias, "with a bias"),
               (text, "text"), (dir, "folder"), (limit, "limit"), (every, "every"), (label, "label"), (betas, "betas"),
               (words, "words"))

class ConfigFile : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& text) const {
    std::ofstream(path_, std::ios::binary) << text;
    return path_;
  }
  std::optional<std::string> apply(const std::string& text) {
    return apply_config_file(write(text), {option_group("model", model_)});
  }
  /// What the refusal says behind the folder.
  std::string refusal(const std::string& text) {
    try {
      apply(text);
    } catch (const UsageError& error) {
      const std::string what = error.what();
      EXPECT_THAT(what, StartsWith(path_.string()));
      return what.substr(folder_.string().size() + 1);
    }
    return "accepted";
  }

  std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      ("config_file_" + std::to_string(::getpid()) + testing::UnitTest::GetInstance()->current_test_info()->name());
  std::filesystem::path path_ = folder_ / "run.toml";
  ModelOptions model_;
};

TEST_F(ConfigFile, SetsOptionsOfEveryType) {
  const auto ckpt_path = apply(R"(
# a comment
ckpt_path = 'last'   # another

[model]
lr = 1e-4
hidden = 1_024
bias = false
text = "a # b \"c\" \\ \t é"
dir = 'C:\data'
limit = 10
every = "none"
label = "x"
betas = [
  0.5,  # first
  1,
]
words = ["a,b", 'c', ""]
)");
  EXPECT_EQ(ckpt_path, "last");
  EXPECT_EQ(model_, (ModelOptions{.lr = 1e-4,
                                  .hidden = 1024,
                                  .bias = false,
                                  .text = "a # b \"c\" \\ \t é",
                                  .dir = "C:\\data",
                                  .limit = 10,
                                  .every = std::nullopt,
                                  .label = "x",
                                  .betas = {0.5, 1.0},
                                  .words = {"a,b", "c", ""}}));
}

TEST_F(ConfigFile, TakesDottedKeysWindowsLineEndsAndNoFinalLineEnd) {
  apply("model.lr=0.5\r\n[ model ]\r\nhidden = 3");
  EXPECT_EQ(model_.lr, 0.5);
  EXPECT_EQ(model_.hidden, 3);
}

TEST_F(ConfigFile, IntegersAreCountsAndFloatsFractions) {
  apply("[model]\nlimit = 1");
  EXPECT_EQ(model_.limit, Amount(1));
  apply("[model]\nlimit = 1.0");
  EXPECT_EQ(model_.limit, Amount(1.0));
}

TEST_F(ConfigFile, WrittenOptionsComeBackAsTheyWere) {
  const ModelOptions written{.lr = 0.1 + 0.2,
                             .hidden = std::numeric_limits<int64_t>::min(),
                             .seed = std::numeric_limits<uint64_t>::max(),
                             .bias = false,
                             .text = "\"quoted\" \\ back\nnew\tline # größe \x01\x7f '''",
                             .dir = "a b/c\"d",
                             .limit = 3,
                             .every = std::nullopt,
                             .label = "",
                             .betas = {},
                             .words = {"", "a\"b", "c,d]"}};
  ModelOptions source = written;
  const std::string toml = to_toml({option_group("model", source)}, "a \"b\"");
  EXPECT_EQ(apply(toml), "a \"b\"");
  EXPECT_EQ(model_, written);
}

TEST_F(ConfigFile, WrittenDoublesComeBackExactly) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 200; ++i) {
    const double value = std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 2000) - 1064);
    ModelOptions source{.lr = value};
    apply(to_toml({option_group("model", source)}));
    ASSERT_EQ(model_.lr, value);
  }
}

TEST_F(ConfigFile, UnknownOptionsNameFileLineAndTheNearest) {
  EXPECT_EQ(refusal("\n[model]\nhiden = 3"), "run.toml:3: unknown option model.hiden; did you mean model.hidden?");
  EXPECT_EQ(refusal("[mdoel]\nlr = 3"), "run.toml:2: unknown option mdoel.lr; did you mean model.lr?");
  EXPECT_EQ(refusal("lr = 3"), "run.toml:1: unknown option lr; did you mean model.lr?");
  EXPECT_EQ(refusal("[model]\nckpt_path = 'x'"), "run.toml:2: unknown option model.ckpt_path; did you mean ckpt_path?");
}

TEST_F(ConfigFile, WrongTypesNameFileLineAndValue) {
  EXPECT_EQ(refusal("[model]\nhidden = 'big'"), "run.toml:2: model.hidden = \"big\" is not a whole number");
  EXPECT_EQ(refusal("[model]\nlr = nan"), "run.toml:2: model.lr = nan is not a finite number");
  EXPECT_EQ(refusal("[model]\nlr = '0.1'"), "run.toml:2: model.lr = \"0.1\" is not a finite number");
  EXPECT_EQ(refusal("[model]\nlr = 'none'"), "run.toml:2: model.lr = \"none\" is not a finite number");
  EXPECT_EQ(refusal("ckpt_path = 3"), "run.toml:1: ckpt_path = 3 is not \"best\", \"last\" or a path in quotes");
  EXPECT_EQ(refusal("[model]\ntext = '\xff'"), "run.toml:2: model.text = \"\xEF\xBF\xBD\" is not UTF-8 text");
}

TEST_F(ConfigFile, MalformedTextNamesFileAndLine) {
  EXPECT_EQ(refusal("[model]\nlr = 1\nlr = 2"), "run.toml:3: model.lr was already set in line 2");
  EXPECT_EQ(refusal("[model]\nlr = 1 2"), "run.toml:2: '2' follows where the line should end");
  EXPECT_EQ(refusal("[model\nlr = 1"), "run.toml:1: ] is missing after the name of a table");
  EXPECT_EQ(refusal("[model]\ntext = big"), "run.toml:2: 'big' is not a value; a text stands in quotes");
  EXPECT_EQ(refusal("[model]\nlr ="), "run.toml:2: a value is missing");
  EXPECT_EQ(refusal("[model]\nlr"), "run.toml:2: = is missing after model.lr");
  EXPECT_EQ(refusal("[model]\ntext = \"a"), "run.toml:2: a string is not closed; \" is missing");
  EXPECT_EQ(refusal("[model]\ntext = 'a\n'"), "run.toml:2: a string is not closed; ' is missing");
  EXPECT_EQ(refusal("[model]\nbetas = [1,\n\n"), "run.toml:4: an array is not closed; ] is missing");
  EXPECT_EQ(refusal("[model]\nhidden = 99999999999999999999"),
            "run.toml:2: the number 99999999999999999999 is out of range");
  EXPECT_THAT(refusal("[[model]]"), HasSubstr("expected a name"));
  EXPECT_THAT(refusal("\"lr\" = 1"), HasSubstr("expected a name"));
  EXPECT_THAT(refusal("[model]\ntext = \"\"\"a\"\"\""), HasSubstr("use \\n"));
}

TEST_F(ConfigFile, OnlyDecimalNumbersWithoutLeadingZerosAreNumbers) {
  for (const char* bad : {"01", "0x10", "1.", ".5", "1e", "1__0", "_1", "1_", "+-1", "--1", "1979-05-27", "{}", "-"}) {
    EXPECT_THAT(refusal("[model]\nlr = " + std::string(bad)), HasSubstr("is not a value")) << bad;
  }
}

TEST_F(ConfigFile, BadEscapesAreRefused) {
  for (const char* bad : {"\\q", "\\", "\\u12", "\\uD800", "\\U00110000", "\\u-123", "\\U"}) {
    EXPECT_THAT(refusal("[model]\ntext = \"" + std::string(bad) + "\""), StartsWith("run.toml:2: ")) << bad;
  }
  apply("[model]\ntext = \"\\u20AC\\U0001F600\"");
  EXPECT_EQ(model_.text, "€😀");
}

TEST_F(ConfigFile, FilesThatCannotBeReadAreRefused) {
  const auto refused = [&](const std::filesystem::path& path) {
    EXPECT_THROW(apply_config_file(path, {option_group("model", model_)}), UsageError) << path;
  };
  refused(folder_ / "missing.toml");
  refused(folder_);
  refused("/dev/zero");
  refused(write(std::string((1 << 20) + 1, '#')));
}

TEST_F(ConfigFile, MayBeginWithAByteOrderMark) {
  EXPECT_EQ(apply("\xEF\xBB\xBF[model]\r\nlr = 0.5\r\n"), std::nullopt);
  EXPECT_EQ(model_.lr, 0.5);
  EXPECT_EQ(apply("\xEF\xBB\xBF"), std::nullopt);
  EXPECT_THAT(refusal("\xEF\xBB\xBF\n[model]\nlr ="), StartsWith("run.toml:3: "));
}

TEST_F(ConfigFile, SaysThatItIsOfAnotherEncoding) {
  const std::string text = "[model]\nlr = 0.5\n";
  const auto widened = [&](std::size_t before, std::size_t after) {
    std::string out;
    for (const char c : text) out += std::string(before, '\0') + c + std::string(after, '\0');
    return out;
  };
  for (const auto& bytes :
       {"\xFF\xFE" + widened(0, 1), "\xFE\xFF" + widened(1, 0), widened(0, 1), widened(1, 0),
        std::string("\xFF\xFE\0\0", 4) + widened(0, 3), std::string("\0\0\xFE\xFF", 4) + widened(3, 0)}) {
    EXPECT_EQ(refusal(bytes), "run.toml: the file is UTF-16 or UTF-32, a config file is UTF-8: save it as that");
  }
}

TEST_F(ConfigFile, DamagedFilesCauseUsageErrorsOnly) {
  ModelOptions source{.text = "a\\\"b\n", .label = "é", .words = {"x", "y"}};
  const std::string good = to_toml({option_group("model", source)}, "last");
  const std::string spice = std::string("\"'[]=#\\\n\r\t.,-+e_\xff\x80u{}") + '\0';
  std::mt19937 random(11);
  for (int i = 0; i < 20000; ++i) {
    std::string bad = good.substr(0, 1 + random() % good.size());
    for (auto edits = random() % 4; edits > 0; --edits) bad[random() % bad.size()] = spice[random() % spice.size()];
    try {
      for (const auto& item : parse_config(bad, "bad.toml")) {
        if (item.name.starts_with("model.")) set_option(model_, "text", item.name);
      }
    } catch (const UsageError&) {
    }
  }
}

TEST_F(ConfigFile, ALongArrayOfArraysIsRefusedWithoutRecursion) {
  EXPECT_THAT(refusal("[model]\nbetas = " + std::string(1000000, '[')), StartsWith("run.toml:2: "));
}

}  // namespace
}  // namespace troupe
