#include "troupe/launch/config_file.hpp"

#include "troupe/launch/parse_config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <random>

namespace troupe {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

struct ConfiguredOptions {
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

  bool operator==(const ConfiguredOptions&) const = default;
};
TROUPE_OPTIONS(ConfiguredOptions, (lr, "learning rate"), (hidden, "units"), (seed, "seed"), (bias, "with a bias"),
               (text, "text"), (dir, "folder"), (limit, "limit"), (every, "every"), (label, "label"), (betas, "betas"),
               (words, "words"))

struct EveryType {
  bool flag = false;
  int small = 0;
  int64_t whole = 0;
  uint64_t large = 0;
  double number = 0;
  std::string text = {};
  std::filesystem::path path = {};
  Amount amount = 0.5;
  std::optional<bool> maybe_flag = {};
  std::optional<int> maybe_small = 1;
  std::optional<int64_t> maybe_whole = 1;
  std::optional<uint64_t> maybe_large = {};
  std::optional<double> maybe_number = {};
  std::optional<std::string> maybe_text = {};
  std::optional<std::filesystem::path> maybe_path = "x";
  std::optional<Amount> maybe_amount = {};
  std::vector<bool> flags = {};
  std::vector<int> smalls = {};
  std::vector<int64_t> wholes = {};
  std::vector<uint64_t> larges = {};
  std::vector<double> numbers = {};
  std::vector<std::string> texts = {};
  std::vector<std::filesystem::path> paths = {};
  std::vector<Amount> amounts = {};

  bool operator==(const EveryType&) const = default;
};
TROUPE_OPTIONS(EveryType, (flag, ""), (small, ""), (whole, ""), (large, ""), (number, ""), (text, ""), (path, ""),
               (amount, ""), (maybe_flag, ""), (maybe_small, ""), (maybe_whole, ""), (maybe_large, ""),
               (maybe_number, ""), (maybe_text, ""), (maybe_path, ""), (maybe_amount, ""), (flags, ""), (smalls, ""),
               (wholes, ""), (larges, ""), (numbers, ""), (texts, ""), (paths, ""), (amounts, ""))

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
  ConfiguredOptions model_;
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
  EXPECT_EQ(model_, (ConfiguredOptions{.lr = 1e-4,
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

TEST_F(ConfigFile, TakesDottedAndQuotedKeysWindowsLineEndsAndNoFinalLineEnd) {
  apply("model.lr=0.5\r\nmodel . \"hidden\" = 3");
  EXPECT_EQ(model_.lr, 0.5);
  EXPECT_EQ(model_.hidden, 3);
}

TEST_F(ConfigFile, TakesAllWaysOfTomlToWriteAValue) {
  apply("model = {lr = 5e-1, hidden = 0x1F, bias = false}");
  EXPECT_EQ(model_.lr, 0.5);
  EXPECT_EQ(model_.hidden, 31);
  EXPECT_FALSE(model_.bias);
  apply("[model]\ntext = \"\"\"\na\nb\"\"\"\"\nlabel = '''c\nd'''");
  EXPECT_EQ(model_.text, "a\nb\"");
  EXPECT_EQ(model_.label, "c\nd");
}

TEST_F(ConfigFile, ADotInAQuotedKeyIsPartOfTheName) {
  EXPECT_EQ(refusal("\"model.lr\" = 1"), "run.toml:1: unknown option \"model.lr\"; did you mean model.lr?");
}

TEST_F(ConfigFile, ItemsComeInTheOrderOfTheFile) {
  EXPECT_EQ(refusal("[model]\nzeta = 1\nalpha = 1").substr(0, 11), "run.toml:2:");
}

TEST_F(ConfigFile, IntegersAreCountsAndFloatsFractions) {
  apply("[model]\nlimit = 1");
  EXPECT_EQ(model_.limit, Amount(1));
  apply("[model]\nlimit = 1.0");
  EXPECT_EQ(model_.limit, Amount(1.0));
}

TEST_F(ConfigFile, WrittenOptionsComeBackAsTheyWere) {
  const ConfiguredOptions written{.lr = 0.1 + 0.2,
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
  ConfiguredOptions source = written;
  const std::string toml = to_toml({option_group("model", source)}, "a \"b\"");
  EXPECT_EQ(apply(toml), "a \"b\"");
  EXPECT_EQ(model_, written);
}

TEST_F(ConfigFile, OptionsOfEveryTypeComeBackAsTheyWere) {
  const EveryType written{.flag = true,
                          .small = std::numeric_limits<int>::min(),
                          .whole = std::numeric_limits<int64_t>::max(),
                          .large = uint64_t{1} << 63,
                          .number = 0.1,
                          .text = "# not a comment, = [no] \'key\'",
                          .path = "C:\\new\\table",
                          .amount = Amount(1),
                          .maybe_flag = false,
                          .maybe_small = std::nullopt,
                          .maybe_whole = std::nullopt,
                          .maybe_large = std::numeric_limits<uint64_t>::max(),
                          .maybe_number = -0.0,
                          .maybe_text = "",
                          .maybe_path = std::nullopt,
                          .maybe_amount = Amount(1.0),
                          .flags = {true, false},
                          .smalls = {-1, 0, std::numeric_limits<int>::max()},
                          .wholes = {std::numeric_limits<int64_t>::min()},
                          .larges = {0, (uint64_t{1} << 63) - 1, uint64_t{1} << 63},
                          .numbers = {1e23, 5e-324, 1.0, 1e300, 0.0},
                          .texts = {"none", "1", "9223372036854775808", "\r\n"},
                          .paths = {"", "a b"},
                          .amounts = {Amount(0), Amount(0.0), Amount(7)}};
  EveryType source = written;
  EveryType read;
  apply_config_file(write(to_toml({option_group("all", source)})), {option_group("all", read)});
  EXPECT_EQ(read, written);
  EXPECT_TRUE(std::signbit(*read.maybe_number));
}

TEST_F(ConfigFile, NumbersAreWrittenAsShortAsTheyComeBack) {
  ConfiguredOptions source{.lr = 0.1, .limit = 1.0};
  const std::string toml = to_toml({option_group("model", source)});
  EXPECT_THAT(toml, HasSubstr("lr = 0.1\n"));
  EXPECT_THAT(toml, HasSubstr("limit = 1.0\n"));
}

TEST_F(ConfigFile, WrittenDoublesComeBackExactly) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 200; ++i) {
    const double value = std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 2000) - 1064);
    ConfiguredOptions source{.lr = value};
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
}

TEST_F(ConfigFile, MalformedTextNamesFileLineAndColumn) {
  EXPECT_EQ(refusal("[model]\nlr = 1\nlr = 2"),
            "run.toml:3:6: error while parsing key-value pair: cannot redefine existing integer 'lr'");
  EXPECT_EQ(refusal("[model]\nlr = 1 2"),
            "run.toml:2:8: error while parsing key-value pair: expected a comment or whitespace, saw '2'");
  EXPECT_THAT(refusal("[model\nlr = 1"), StartsWith("run.toml:1:7: error while parsing table header: expected ']'"));
  EXPECT_EQ(refusal("[model]\ntext = big"),
            "run.toml:2:8: error while parsing value: could not determine value type; a text stands in quotes");
  EXPECT_THAT(refusal("[model]\nlr ="), StartsWith("run.toml:2:5: "));
  EXPECT_THAT(refusal("[model]\nlr"), StartsWith("run.toml:2:3: "));
  EXPECT_THAT(refusal("[model]\nbetas = [1,\n\n"), HasSubstr("error while parsing array: encountered end-of-file"));
  EXPECT_EQ(refusal("[model]\ntext = '\xff'"), "run.toml:2:8: encountered invalid utf-8 sequence");
  EXPECT_THAT(refusal("[model]\ntext = 'a\x01'"), HasSubstr("control characters"));
  EXPECT_THAT(refusal("[model]\nlr = 1\n[model]\n"), HasSubstr("cannot redefine existing table 'model'"));
}

TEST_F(ConfigFile, AStringThatIsNotClosedIsNamedAsThat) {
  for (const char* bad : {"\"a", "\"a\nlr = 1", "'a\n'", "'a\r\n", "\"\"\"a\n"}) {
    EXPECT_THAT(refusal("[model]\ntext = " + std::string(bad)), HasSubstr("the string is not closed")) << bad;
  }
}

TEST_F(ConfigFile, NumbersOutOfRangeAreNamed) {
  EXPECT_THAT(refusal("[model]\nhidden = 9223372036854775808"),
              AllOf(StartsWith("run.toml:2:"), HasSubstr("'9223372036854775808' is not representable in 64 bits")));
  EXPECT_EQ(refusal("[model]\nbetas = ['é', 0, 0e5, 1e-999]"), "run.toml:2:23: the number 1e-999 is out of range");
  EXPECT_THAT(refusal("[model]\nlr = 1e999"), HasSubstr("'1e999'"));
  EXPECT_EQ(refusal("[model]\nhidden = '9223372036854775808'"),
            "run.toml:2: model.hidden = \"9223372036854775808\" is not a whole number");
}

TEST_F(ConfigFile, ValuesThatNoOptionHasAreRefused) {
  for (const char* value : {"1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[1979-05-27]"}) {
    EXPECT_THAT(refusal("[model]\ntext = " + std::string(value)),
                AllOf(StartsWith("run.toml:2:"),
                      HasSubstr("model.text is a date or a time, and no option takes that; a text stands in quotes")));
  }
  EXPECT_THAT(refusal("[[model]]\nlr = 1"), HasSubstr("model is an array of tables, and no option takes that"));
  EXPECT_EQ(refusal("[model]\nbetas = [[1]]"), "run.toml:2: model.betas[0] = [1] is not a finite number");
}

TEST_F(ConfigFile, WhatIsNoNumberOfTomlIsRefused) {
  for (const char* bad : {"01", "1.", ".5", "1e", "1__0", "_1", "1_", "+-1", "--1", "-", "0.1.2"}) {
    EXPECT_THAT(refusal("[model]\nlr = " + std::string(bad)), StartsWith("run.toml:2:")) << bad;
  }
}

TEST_F(ConfigFile, BadEscapesAreRefused) {
  for (const char* bad : {"\\q", "\\", "\\u12", "\\uD800", "\\U00110000", "\\u-123", "\\U"}) {
    EXPECT_THAT(refusal("[model]\ntext = \"" + std::string(bad) + "\""), StartsWith("run.toml:2:")) << bad;
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
  EXPECT_THAT(refusal("\xEF\xBB\xBF\n[model]\nlr ="), StartsWith("run.toml:3:5: "));
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
  ConfiguredOptions source{.text = "a\\\"b\n", .label = "é", .words = {"x", "y"}};
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

TEST_F(ConfigFile, DeepNestingIsRefusedBeforeTheStackEnds) {
  const auto repeated = [](std::string_view part, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += part;
    return out;
  };
  for (const auto* part : {"[", "{a = ", "[{a = ", "{\"a\".a = "}) {
    EXPECT_THAT(refusal("[model]\nbetas = " + repeated(part, 100000)), StartsWith("run.toml:2:")) << part;
  }
  const std::string long_name = repeated("a.", 100000) + "a";
  EXPECT_EQ(refusal("[model]\n" + long_name + " = 1"), "run.toml:2: a name has more than 17 parts");
  EXPECT_EQ(refusal("[" + long_name + "]"), "run.toml:1: a name has more than 17 parts");
  EXPECT_EQ(refusal(repeated("'a.b' . ", 1000) + "a = 1"), "run.toml:1: a name has more than 17 parts");
}

TEST_F(ConfigFile, NoStringHidesALongName) {
  const std::string rest = ", {a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1}]";
  for (const char* text : {"''", "'\\'", "\"\\\"\"", "\"\"\"\"\"\"", "\"\"\"a\"\"\"\"", "\"\"\"a\n\"\"\"\"\"",
                           "'''a'''''", "\"\"\"\\\"\"\"\"", "1 # ' \"\n"}) {
    EXPECT_THAT(refusal("[model]\nwords = [" + std::string(text) + rest), HasSubstr("a name has more than")) << text;
  }
  apply("[model]\ntext = '" + std::string(5000, '.') + "'\nwords = [\"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t\"]");
  EXPECT_EQ(model_.text.size(), 5000);
}

}  // namespace
}  // namespace troupe
