#include "troupe/base/nearest.hpp"
#include "troupe/base/text.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(Nearest, DistanceCountsLettersAndSwaps) {
  EXPECT_EQ(edit_distance("loss", "loss"), 0u);
  EXPECT_EQ(edit_distance("", "loss"), 4u);
  EXPECT_EQ(edit_distance("los", "loss"), 1u);
  EXPECT_EQ(edit_distance("lsos", "loss"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(Nearest, IsTheClosestCandidateAndTheFirstOfEquals) {
  EXPECT_EQ(nearest("val_los", {"train_loss", "val_loss", "val_acc"}), "val_loss");
  EXPECT_EQ(nearest("b", {"a", "c"}), "a");
  EXPECT_EQ(nearest("b", {}), "");
}

TEST(Nearest, IsTheCandidateThatTheNameIsTheBeginningOf) {
  EXPECT_EQ(nearest("ckpt", {"help", "ckpt_path"}), "ckpt_path");
}

TEST(Nearest, TextInAnErrorCannotWriteToTheTerminal) {
  EXPECT_EQ(shown("größe"), "größe");
  EXPECT_EQ(shown("a\nb\x1b[2J\xff"), "a\\nb\\x1b[2J\\xff");
  EXPECT_LT(shown(std::string(1000000, 'x')).size(), 150u);
}

TEST(Nearest, Utf8IsWellFormedOrNot) {
  for (const char* good : {"", "plain", "größe", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xC0\x80", "\xC3", "\xED\xA0\x80", "\xE0\x80\x80", "\xF4\x90\x80\x80", "\xFF"}) {
    EXPECT_FALSE(is_utf8(bad));
  }
}

}  // namespace
}  // namespace troupe
