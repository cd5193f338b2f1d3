#include "troupe/runtime/sinks/png.hpp"

#include "troupe/base/failure.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>
#include <torch/torch.h>

namespace troupe {
namespace {

using testing::HasSubstr;

std::string png_message(const torch::Tensor& image) {
  try {
    encode_png(image);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// The pixels [H, W, C] of a file, as libpng's own reader has them.
torch::Tensor decoded(const std::string& file, png_uint_32 format) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&image, file.data(), file.size()) == 0) throw std::runtime_error(image.message);
  EXPECT_EQ(image.format, format);
  const auto pixels = torch::zeros({image.height, image.width, PNG_IMAGE_SAMPLE_CHANNELS(format)}, torch::kUInt8);
  const auto read = png_image_finish_read(&image, nullptr, pixels.data_ptr(), 0, nullptr);
  if (read == 0) throw std::runtime_error(image.message);
  return pixels;
}

TEST(Png, IsReadBackPixelByPixel) {
  torch::manual_seed(3);
  const std::pair<int64_t, png_uint_32> kinds[] = {{1, PNG_FORMAT_GRAY}, {3, PNG_FORMAT_RGB}, {4, PNG_FORMAT_RGBA}};
  for (const auto& [channels, format] : kinds) {
    const auto image = torch::randint(0, 256, {channels, 7, 300}, torch::kUInt8);
    EXPECT_TRUE(decoded(encode_png(image), format).permute({2, 0, 1}).equal(image)) << channels;
  }
}

TEST(Png, TakesMoreThanAMillionRows) {
  const auto image = torch::zeros({1, 1000001, 1}, torch::kUInt8);
  EXPECT_EQ(encode_png(image).substr(16, 8), std::string("\0\0\0\x01\0\x0F\x42\x41", 8));
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
  EXPECT_THAT(png_message(torch::zeros({2, 4, 4})), HasSubstr("[2, 4, 4]"));
  EXPECT_THAT(png_message(torch::zeros({4, 4})), HasSubstr("[4, 4]"));
  EXPECT_THAT(png_message(torch::zeros({1, 0, 4})), HasSubstr("[1, 0, 4]"));
  EXPECT_THAT(png_message(torch::zeros({1, 4, 4}, torch::kInt64)), HasSubstr("Long"));
  EXPECT_THAT(png_message(torch::Tensor()), HasSubstr("undefined"));
}

}  // namespace
}  // namespace troupe
