#include "troupe/base/text.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace troupe {
namespace {

TEST(Utf8, ReplacesBytesThatAreNoCharacters) {
  EXPECT_EQ(valid_utf8("für 損失 🎭"), "für 損失 🎭");
  EXPECT_EQ(valid_utf8("a\xFFz"), "a\uFFFDz");
  EXPECT_EQ(valid_utf8("\xC3"), "\uFFFD");                      // cut short
  EXPECT_EQ(valid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(valid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate
}

TEST(Utf8, PutsTextOnOneLine) {
  EXPECT_EQ(single_line("a\nb\x1b[1mc\xFF"), "a b [1mc\uFFFD");
}

TEST(Utf8, CountsTerminalColumns) {
  EXPECT_EQ(columns("loss"), 4);
  EXPECT_EQ(columns("för"), 3);
  EXPECT_EQ(columns("損失"), 4);
  EXPECT_EQ(columns("e\u0301"), 1);
}

TEST(Utf8, CutsAndPadsAtWholeCharacters) {
  EXPECT_EQ(fit_columns("a損失", 4), "a損");
  EXPECT_EQ(fit_columns("abc", 0), "");
  EXPECT_EQ(pad_columns("損", 4), "損  ");
  EXPECT_EQ(pad_columns("abc", 2), "abc");
}

TEST(Lists, AreJoinedAndCutAfterTwenty) {
  EXPECT_EQ(joined(std::vector<std::string>{}), "");
  EXPECT_EQ(joined({"a", "b"}, "; "), "a; b");
  EXPECT_EQ(joined(std::vector<int64_t>{2, 3}), "2, 3");
  EXPECT_EQ(joined_as(std::vector<bool>{true, false}, [](bool b) { return std::string(b ? "yes" : "no"); }), "yes, no");
  EXPECT_EQ(brief_list(std::vector<std::string>(20, "x")), joined(std::vector<std::string>(20, "x")));
  EXPECT_EQ(brief_list(std::vector<std::string>(22, "x")), joined(std::vector<std::string>(20, "x")) + " and 2 more");
}

}  // namespace
}  // namespace troupe
