#include "troupe/modules/options/options.hpp"

#include "tests/support/refusal.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>

namespace elsewhere {

struct DigitsOptions {
  double lr = 1e-3;
  int64_t hidden = 128;
  std::shared_ptr<int> not_described = {};
};
TROUPE_OPTIONS(DigitsOptions, (lr, "learning rate of AdamW"), (hidden, "units of the hidden layer"))

enum class Weather { dry, wet };
TROUPE_CHOICES(Weather, {dry, "dry"}, {wet, "wet"}, {wet, "rain", ::troupe::ChoiceUse::accepted},
               {dry, "sun", ::troupe::ChoiceUse::suggested})

struct Outer {
  struct Options {
    bool flag = false;
    int small = 1;
    uint64_t seed = 0;
    std::string text = "plain";
    std::filesystem::path dir = "data";
    troupe::Amount limit = 1.0;
    std::optional<double> clip = std::nullopt;
    std::optional<std::string> label = std::nullopt;
    std::optional<troupe::Amount> some = std::nullopt;
    std::vector<int64_t> sizes = {64, 32};
    std::vector<std::string> words = {};
    std::vector<bool> bits = {};
    int64_t fast = 0;
    Weather weather = Weather::dry;

    bool operator==(const Options&) const = default;
  };
};
TROUPE_OPTIONS(Outer::Options, (flag, "a bool"), (small, "an int"), (seed, "a uint64_t"), (text, "a text"),
               (dir, "a path"), (limit, "an amount"), (clip, "an optional"), (label, "an optional text"),
               (some, "an optional amount"), (sizes, "a vector"), (words, "texts"), (bits, "bools"),
               (fast, "a switchable number", troupe::switchable), (weather, "an enum"))

struct Timed {
  std::pair<double, double> betas = {0.9, 0.999};
  std::array<double, 3> numbers = {1, 2, 3};
  std::optional<std::chrono::milliseconds> duration = std::nullopt;

  bool operator==(const Timed&) const = default;
};
TROUPE_OPTIONS(Timed, (betas, "a pair"), (numbers, "an array"), (duration, "a time"))

struct Many {
  bool a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3, c4, c5, c6, c7, d0, d1, d2, d3,
      d4, d5, d6, d7, e0, e1, e2, e3, e4, e5, e6, e7, f0, f1, f2, f3, f4, f5, f6, f7, g0, g1, g2, g3, g4, g5, g6, g7,
      h0, h1, h2, h3, h4, h5, h6, h7;
};
TROUPE_OPTIONS(Many, (a0, ""), (a1, ""), (a2, ""), (a3, ""), (a4, ""), (a5, ""), (a6, ""), (a7, ""), (b0, ""), (b1, ""),
               (b2, ""), (b3, ""), (b4, ""), (b5, ""), (b6, ""), (b7, ""), (c0, ""), (c1, ""), (c2, ""), (c3, ""),
               (c4, ""), (c5, ""), (c6, ""), (c7, ""), (d0, ""), (d1, ""), (d2, ""), (d3, ""), (d4, ""), (d5, ""),
               (d6, ""), (d7, ""), (e0, ""), (e1, ""), (e2, ""), (e3, ""), (e4, ""), (e5, ""), (e6, ""), (e7, ""),
               (f0, ""), (f1, ""), (f2, ""), (f3, ""), (f4, ""), (f5, ""), (f6, ""), (f7, ""), (g0, ""), (g1, ""),
               (g2, ""), (g3, ""), (g4, ""), (g5, ""), (g6, ""), (g7, ""), (h0, ""), (h1, ""), (h2, ""), (h3, ""),
               (h4, ""), (h5, ""), (h6, ""), (h7, ""))

}  // namespace elsewhere

namespace troupe {
namespace {

using elsewhere::DigitsOptions;
using nlohmann::json;
using Options = elsewhere::Outer::Options;
using testing::HasSubstr;

std::string text_refusal(const std::string& name, std::string_view text) {
  Options options;
  const std::string out = refusal([&] { set_option(options, name, text, "model"); });
  EXPECT_EQ(options, Options{}) << "a refused value was stored";
  return out;
}

std::string json_refusal(const char* text) {
  return refusal([&] { options_from_json<Options>(json::parse(text), "model"); });
}

Options unusual() {
  return {.flag = true,
          .small = -7,
          .seed = std::numeric_limits<uint64_t>::max(),
          .text = "a \"quoted\"\nline",
          .dir = "/tmp/größe",
          .limit = 10,
          .clip = 0.1,
          .label = "",
          .some = 0.5,
          .sizes = {},
          .words = {"a,b", "", "c"},
          .bits = {true, false},
          .fast = 3,
          .weather = elsewhere::Weather::wet};
}

TEST(Options, StructsStayAggregatesWithMembersThatAreNotDescribed) {
  const DigitsOptions options{.lr = 0.01};
  EXPECT_EQ(to_json_object(options), json({{"lr", 0.01}, {"hidden", 128}}));
  static_assert(Described<DigitsOptions> && Described<Options> && !Described<int> && !Described<std::string>);
}

TEST(Options, SixtyFourCanBeDescribed) {
  EXPECT_EQ(describe_options<elsewhere::Many>().size(), 64u);
}

TEST(Options, ComeBackFromJsonAsTheyWere) {
  for (const Options& options : {Options{}, unusual()}) {
    EXPECT_EQ(options_from_json<Options>(json::parse(to_json_object(options).dump())), options);
  }
}

TEST(Options, JsonKeepsUnsetCountAndFractionApart) {
  const json unset = to_json_object(Options{});
  EXPECT_TRUE(unset["clip"].is_null());
  EXPECT_TRUE(unset["limit"].is_number_float());
  EXPECT_TRUE(to_json_object(unusual())["limit"].is_number_integer());
}

TEST(Options, MissingKeysKeepTheirDefaults) {
  EXPECT_EQ(options_from_json<DigitsOptions>(json::parse(R"({"lr": 1})")).hidden, 128);
  EXPECT_EQ(options_from_json<DigitsOptions>(json::parse(R"({"lr": 1})")).lr, 1.0);
}

TEST(Options, UnknownKeyNamesTheNearest) {
  EXPECT_EQ(refusal([] { options_from_json<DigitsOptions>(json::parse(R"({"hiden": 1})"), "model"); }),
            "unknown option model.hiden; did you mean model.hidden?");
  DigitsOptions options;
  EXPECT_EQ(refusal([&] { set_option(options, "rl", "1"); }), "unknown option rl; did you mean lr?");
}

TEST(Options, WrongJsonTypeNamesOptionValueAndExpectation) {
  EXPECT_EQ(json_refusal(R"({"small": "big"})"), "model.small = \"big\" is not a whole number");
  EXPECT_EQ(json_refusal(R"({"small": 1.5})"), "model.small = 1.5 is not a whole number");
  EXPECT_EQ(json_refusal(R"({"small": 3000000000})"),
            "model.small = 3000000000 is not a whole number from -2147483648 to 2147483647");
  EXPECT_EQ(json_refusal(R"({"seed": -1})"), "model.seed = -1 is not a whole number from 0 to 18446744073709551615");
  EXPECT_EQ(json_refusal(R"({"flag": 1})"), "model.flag = 1 is not true or false");
  EXPECT_EQ(json_refusal(R"({"text": null})"), "model.text = null is not UTF-8 text");
  EXPECT_EQ(json_refusal(R"({"clip": "0.1"})"), "model.clip = \"0.1\" is not a finite number, or none");
  EXPECT_EQ(json_refusal(R"({"limit": 1.5})"),
            "model.limit = 1.5 is not a count of at least 0 or a fraction from 0.0 to 1.0");
  EXPECT_EQ(json_refusal(R"({"sizes": 3})"), "model.sizes = 3 is not a list, each of it a whole number");
  EXPECT_EQ(json_refusal(R"({"sizes": [3, "x"]})"), "model.sizes[1] = \"x\" is not a whole number");
  EXPECT_EQ(json_refusal("[]"), "model = [] is not a JSON object of options");
}

TEST(Options, NumbersThatAreNotFiniteAreRefusedFromEverySource) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  DigitsOptions options{.lr = nan};
  EXPECT_EQ(refusal([&] { check_options(options, "model"); }), "model.lr = nan is not a finite number");
  EXPECT_EQ(refusal([&] {
              options_from_json<DigitsOptions>({{"lr", -infinity}}, "model");
            }),
            "model.lr = -inf is not a finite number");
  for (const char* text : {"nan", "inf", "-inf", "1e999"}) {
    EXPECT_EQ(refusal([&] { set_option(options, "lr", text, "model"); }),
              "model.lr = " + std::string(text) + " is not a finite number");
  }
}

TEST(Options, TextIsReadStrictly) {
  EXPECT_EQ(text_refusal("small", "3x"), "model.small = 3x is not a whole number");
  EXPECT_EQ(text_refusal("small", ""), "model.small =  is not a whole number");
  EXPECT_EQ(text_refusal("small", " 3"), "model.small =  3 is not a whole number");
  EXPECT_THAT(text_refusal("small", "2147483648"), HasSubstr("from -2147483648 to 2147483647"));
  EXPECT_THAT(text_refusal("seed", "-1"), HasSubstr("from 0 to 18446744073709551615"));
  EXPECT_EQ(text_refusal("flag", "yes"), "model.flag = yes is not true or false");
  for (const auto& tiny : std::vector<std::string>{"1e-400", "-1E-400", "0." + std::string(400, '0') + "1"}) {
    EXPECT_THAT(text_refusal("clip", tiny),
                HasSubstr(" is not a number that a double tells from 0 (write 0, or at least"
                          " 4.95e-324), or none"));
  }
  EXPECT_EQ(text_refusal("clip", "1e400"), "model.clip = 1e400 is not a finite number, or none");
  EXPECT_EQ(text_refusal("clip", "0,5"), "model.clip = 0,5 is not a finite number, or none");
  EXPECT_EQ(text_refusal("sizes", "1,,2"), "model.sizes[1] =  is not a whole number");
  EXPECT_EQ(text_refusal("text", "\xff"), "model.text = \\xff is not UTF-8 text");
  EXPECT_EQ(text_refusal("dir", std::string_view("a\0b", 3)), "model.dir = a\\x00b is not a path in UTF-8");
}

TEST(Options, TextSetsEveryType) {
  Options options;
  const auto set = [&](const char* name, const char* text) { set_option(options, name, text); };
  set("flag", "1");
  set("small", "+5");
  set("seed", "18446744073709551615");
  set("dir", "/tmp");
  set("limit", "10");
  set("clip", "1e-3");
  set("some", "0.5");
  set("sizes", "1,-2");
  set("words", "a,,b");
  set("bits", "true,0");
  EXPECT_TRUE(options.flag);
  EXPECT_EQ(options.small, 5);
  EXPECT_EQ(options.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(options.dir, "/tmp");
  EXPECT_EQ(options.limit, Amount(10));
  EXPECT_EQ(options.clip, 1e-3);
  EXPECT_EQ(options.some, Amount(0.5));
  EXPECT_THAT(options.sizes, testing::ElementsAre(1, -2));
  EXPECT_THAT(options.words, testing::ElementsAre("a", "", "b"));
  EXPECT_THAT(options.bits, testing::ElementsAre(true, false));
}

TEST(Options, NoneEmptiesAnOptionalAndEmptyTextAVector) {
  Options options{.clip = 1.0};
  set_option(options, "clip", "none");
  set_option(options, "sizes", "");
  EXPECT_EQ(options.clip, std::nullopt);
  EXPECT_TRUE(options.sizes.empty());
}

TEST(Options, SwitchableNumbersTakeTrueAndFalse) {
  Options options;
  set_option(options, "fast", "true");
  EXPECT_EQ(options.fast, 1);
  set_options(options, json{{"fast", false}});
  EXPECT_EQ(options.fast, 0);
  EXPECT_EQ(text_refusal("small", "true"), "model.small = true is not a whole number");
}

TEST(Options, EnumsAreGivenAndWrittenByTheirNames) {
  Options options;
  set_option(options, "weather", "rain");
  EXPECT_EQ(options.weather, elsewhere::Weather::wet);
  EXPECT_EQ(to_json_object(options)["weather"], "wet");
  EXPECT_EQ(text_refusal("weather", "wetter"), "model.weather = wetter is not valid; did you mean wet? (dry, wet)");
  EXPECT_EQ(text_refusal("weather", "sun"), "model.weather = sun is not valid; did you mean dry? (dry, wet)");
  EXPECT_EQ(json_refusal(R"({"weather": 1})"), "model.weather = 1 is not UTF-8 text");
}

TEST(Options, PairsArraysAndTimesAreWholeValues) {
  elsewhere::Timed options;
  set_option(options, "betas", "0.5,0.25");
  set_option(options, "numbers", "3,2.5,1");
  set_option(options, "duration", "90s");
  EXPECT_EQ(options, (elsewhere::Timed{{0.5, 0.25}, {3, 2.5, 1}, std::chrono::seconds(90)}));
  const auto json = to_json_object(options);
  EXPECT_EQ(json.dump(), R"({"betas":[0.5,0.25],"duration":"00:00:01:30","numbers":[3.0,2.5,1.0]})");
  EXPECT_EQ(options_from_json<elsewhere::Timed>(json), options);
  const auto info = describe_options(options);
  EXPECT_EQ(info[0].type + ' ' + info[1].type + ' ' + info[2].type, "FLOAT,FLOAT FLOAT,FLOAT,FLOAT TIME|none");
  EXPECT_EQ(info[0].default_value, "0.5,0.25");
  set_option(options, "duration", "none");
  EXPECT_FALSE(options.duration);
  EXPECT_EQ(refusal([&] { set_option(options, "betas", "0.5"); }), "betas = 0.5 is not a list of 2 finite numbers");
  EXPECT_EQ(refusal([&] { set_option(options, "betas", "0.5,x"); }), "betas[1] = x is not a finite number");
  EXPECT_EQ(refusal([&] {
              set_options(options, {{"numbers", {1, 2}}});
            }),
            "numbers = [1,2] is not a list of 3 finite numbers");
  EXPECT_EQ(refusal([&] {
              set_options(options, {{"duration", 90}});
            }),
            "duration = 90 is not a time such as 00:00:30 or 90s (ms, s, m, h or d), or none");
  options.betas.second = std::numeric_limits<double>::infinity();
  EXPECT_EQ(refusal([&] { check_options(options); }), "betas = 0.5,inf is not a list of 2 finite numbers");
}

TEST(Options, InfoShowsMeaningTypeAndDefault) {
  const auto info = describe_options<Options>();
  const auto summary = [&](std::size_t i) { return info[i].name + " " + info[i].type + " " + info[i].default_value; };
  EXPECT_EQ(info[0].meaning, "a bool");
  EXPECT_EQ(summary(0), "flag BOOL false");
  EXPECT_EQ(summary(2), "seed UINT 0");
  EXPECT_EQ(summary(5), "limit INT|FLOAT 1.0");
  EXPECT_EQ(summary(6), "clip FLOAT|none none");
  EXPECT_EQ(summary(9), "sizes INT,... 64,32");
  EXPECT_EQ(summary(12), "fast INT|BOOL 0");
  EXPECT_EQ(summary(13), "weather dry|wet dry");
}

}  // namespace
}  // namespace troupe
