#include "troupe/modules/options/amount.hpp"

#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace troupe {
namespace {

std::string amount_refusal(const Amount& amount, std::optional<int64_t> total) {
  try {
    amount.of(total, "limit_train_batches");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Amount, IsACountOrAFractionByTheTypeItIsMadeFrom) {
  EXPECT_TRUE(Amount(1).is_count());
  EXPECT_TRUE(Amount(int64_t{1}).is_count());
  EXPECT_FALSE(Amount(1.0).is_count());
  EXPECT_NE(Amount(1), Amount(1.0));
}

TEST(Amount, CountIsBoundedByTheTotal) {
  EXPECT_EQ(Amount(10).of(4), 4);
  EXPECT_EQ(Amount(3).of(4), 3);
  EXPECT_EQ(Amount(3).of(std::nullopt), 3);
}

TEST(Amount, FractionRoundsDown) {
  EXPECT_EQ(Amount(0.5).of(5), 2);
  EXPECT_EQ(Amount(1.0).of(5), 5);
  EXPECT_EQ(Amount(0.5).of(0), 0);
}

TEST(Amount, AllOfAStreamIsNoLimitAndNoneOfItIsNone) {
  EXPECT_EQ(Amount(1.0).of(std::nullopt), std::nullopt);
  EXPECT_EQ(Amount(0.0).of(std::nullopt), 0);
  EXPECT_EQ(Amount(0).of(std::nullopt), 0);
}

TEST(Amount, RefusesWhatLightningRefuses) {
  EXPECT_EQ(amount_refusal(0.5, std::nullopt),
            "limit_train_batches = 0.5 is a fraction of a stream of unknown length; use 1.0 or a count of batches");
  EXPECT_EQ(amount_refusal(0.1, 4),
            "limit_train_batches = 0.1 of 4 batches is less than one batch; use at least 0.25 or a count of batches");
}

TEST(Amount, NumbersOutOfRangeAreNotValid) {
  for (const Amount& amount : {Amount(-1), Amount(-0.5), Amount(1.5), Amount(std::nan(""))}) {
    EXPECT_FALSE(amount.valid()) << amount.to_text();
    EXPECT_THAT(amount_refusal(amount, 4),
                testing::HasSubstr("is not a count of at least 0 or a fraction from 0.0 to 1.0"));
  }
}

TEST(Amount, TextTellsCountsFromFractions) {
  for (const Amount& amount : {Amount(10), Amount(0), Amount(1.0), Amount(0.0), Amount(0.1), Amount(1e-9)}) {
    EXPECT_EQ(Amount::from_text(amount.to_text()), amount) << amount.to_text();
  }
  EXPECT_EQ(Amount(10).to_text(), "10");
  EXPECT_EQ(Amount(1.0).to_text(), "1.0");
  for (const char* bad : {"", "-1", "1.5", "ten", "nan", "inf", "1.0x", " 1", "99999999999999999999", "--1", "1-"}) {
    EXPECT_EQ(Amount::from_text(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace troupe
