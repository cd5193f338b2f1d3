#include "troupe/runtime/sinks/png.hpp"

#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

namespace troupe {
namespace {

using testing::HasSubstr;

std::string message_of(const torch::Tensor& image) {
  try {
    encode_png(image);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Png, BeginsWithTheSignatureAndTheSize) {
  std::string png = encode_png(torch::zeros({3, 2, 5}));
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(png.substr(12, 14), std::string("IHDR\0\0\0\x05\0\0\0\x02\x08\x02", 14));
}

TEST(Png, TakesTheSamePixelsFromBytesAndFromFloats) {
  auto bytes = torch::arange(0, 4 * 3 * 5, torch::kUInt8).reshape({4, 3, 5});
  EXPECT_EQ(encode_png(bytes), encode_png(bytes.to(torch::kFloat64) / 255));
}

TEST(Png, ClampsFloatsAndTakesNanAsBlack) {
  auto image = torch::tensor({-3.0f, 7.0f, std::nanf("")}).reshape({1, 1, 3});
  EXPECT_EQ(encode_png(image), encode_png(torch::tensor({0, 255, 0}, torch::kUInt8).reshape({1, 1, 3})));
}

TEST(Png, TakesAViewThatIsNotContiguous) {
  auto image = torch::rand({6, 4, 3});
  EXPECT_EQ(encode_png(image.permute({2, 0, 1})), encode_png(image.permute({2, 0, 1}).contiguous()));
}

TEST(Png, NamesTheShapeOrTypeItCannotEncode) {
  EXPECT_THAT(message_of(torch::zeros({2, 4, 4})), HasSubstr("[2, 4, 4]"));
  EXPECT_THAT(message_of(torch::zeros({4, 4})), HasSubstr("[4, 4]"));
  EXPECT_THAT(message_of(torch::zeros({1, 0, 4})), HasSubstr("[1, 0, 4]"));
  EXPECT_THAT(message_of(torch::zeros({1, 4, 4}, torch::kInt64)), HasSubstr("Long"));
  EXPECT_THAT(message_of(torch::Tensor()), HasSubstr("undefined"));
}

}  // namespace
}  // namespace troupe
