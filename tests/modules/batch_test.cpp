#include "troupe/modules/batch.hpp"

#include <gtest/gtest.h>

namespace troupe {
namespace {

TEST(Batch, GivesTensorsByPositionNameAndStructuredBinding) {
  Batch batch{{"image", torch::ones({4, 2})}, {"label", torch::arange(4)}};
  auto [x, y] = batch.get<2>();
  EXPECT_TRUE(x.is_same(batch["image"]));
  EXPECT_TRUE(y.is_same(batch[1]));
  EXPECT_EQ(batch.size(), 4);
}

TEST(Batch, HasTheSizeThatIsSaidElseThatOfItsTensorsElseThatOfItsSamples) {
  const auto loaded = [](Batch batch, int64_t samples) {
    batch.set_made_of(samples);
    return batch;
  };
  EXPECT_EQ(Batch().size(), 1);
  EXPECT_EQ((Batch{torch::ones({3, 4}), torch::ones({2})}).size(), 3);
  EXPECT_EQ(loaded({torch::ones({3, 4}), torch::ones({2})}, 2).size(), 2);
  EXPECT_EQ(loaded({torch::ones({0, 4}), torch::ones({2})}, 2).size(), 2);
  EXPECT_EQ(loaded({torch::ones({0, 4})}, 2).size(), 2);
  EXPECT_EQ(loaded({torch::tensor(1.0), torch::ones({32, 4}), torch::Tensor(), torch::ones({32})}, 1).size(), 32);
  EXPECT_EQ(loaded({torch::tensor(1.0)}, 5).size(), 5);
  Batch batch = loaded({torch::ones({7, 2})}, 2);
  batch.set_size(2);
  EXPECT_EQ(batch.to(torch::kCPU).size(), 2);
  EXPECT_THROW(batch.set_size(-1), std::invalid_argument);
}

TEST(Batch, NamesWhatItHoldsWhenAskedForSomethingElse) {
  Batch batch{{"image", torch::ones({4, 2})}, {"label", torch::arange(4)}};
  try {
    batch["imgae"];
    FAIL() << "an unknown name was accepted";
  } catch (const std::out_of_range& error) {
    EXPECT_STREQ(error.what(), "no tensor 'imgae' in the batch; it holds: image, label");
  }
  EXPECT_THROW(batch[2], std::out_of_range);
  EXPECT_THROW(batch.get<3>(), std::out_of_range);
  EXPECT_THROW(batch.append("label", torch::zeros(1)), std::invalid_argument);
}

}  // namespace
}  // namespace troupe
