#include <gtest/gtest.h>
#include <troupe/troupe.hpp>

namespace {

TEST(UmbrellaHeader, BringsTheWholeApi) {
  const troupe::TrainerOptions options{.max_epochs = 3};
  EXPECT_NO_THROW(troupe::validate(options));
  const troupe::Batch batch{torch::ones({2, 3}), torch::zeros({2})};
  EXPECT_EQ(batch.size(), 2);
}

}  // namespace
