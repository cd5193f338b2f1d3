#include "troupe/runtime/data/transforms/fused.hpp"

#include "tests/support/refusal.hpp"
#include "troupe/runtime/data/transforms/color.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/values.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <utility>
#include <vector>

namespace troupe::transforms {
namespace {

using testing::HasSubstr;

const std::vector<double> kMean{0.485, 0.456, 0.406}, kStd{0.229, 0.224, 0.225};

PixelView view_of(const torch::Tensor& pixels) {
  return {pixels.const_data_ptr<uint8_t>(), pixels.size(0), pixels.size(1), pixels.size(2), pixels.stride(0)};
}

torch::Tensor random_pixels(int64_t height, int64_t width, int64_t channels) {
  return torch::randint(0, 256, {height, width, channels}, torch::kUInt8);
}

torch::Tensor written(const FusedTransform& fused, const PixelView& source, const Box& box, const DrawnImage& drawn) {
  const auto [height, width] = fused.output_size();
  auto row = torch::full({source.channels, height, width}, 77, fused.output_type());
  fused.write(source, box, drawn, row);
  return row;
}

class FusedTransforms : public testing::Test {
 protected:
  FusedTransforms() { torch::manual_seed(9); }

  /// Expects the one pass to give what the steps give, from the same seed, for images of several sizes.
  void expect_equal_to_steps(const Compose& steps, const std::vector<std::pair<int64_t, int64_t>>& sizes,
                             double difference, int64_t channels = 3) {
    const auto fused = FusedTransform::of(steps);
    ASSERT_TRUE(fused);
    for (const auto& [height, width] : sizes) {
      const auto pixels = random_pixels(height, width, channels);
      for (int seed = 0; seed < 12; ++seed) {
        torch::manual_seed(seed);
        const auto expected = steps(pixels.permute({2, 0, 1}));
        const auto next = torch::rand({1}).item<float>();
        torch::manual_seed(seed);
        const auto drawn = fused->draw(height, width);
        EXPECT_EQ(torch::rand({1}).item<float>(), next) << "other draws than the steps'";
        const auto result = written(*fused, view_of(pixels), drawn.box, drawn);
        ASSERT_EQ(result.sizes(), expected.sizes());
        ASSERT_EQ(result.scalar_type(), expected.scalar_type());
        const auto gap = (result.to(torch::kFloat64) - expected.to(torch::kFloat64)).abs().max().item<double>();
        EXPECT_LE(gap, difference) << height << " x " << width << ", seed " << seed;
        expect_part_to_suffice(*fused, pixels, drawn, result);
      }
    }
  }

  /// Expects the pixels of drawn.needed to give the same: with others beside them and with no byte after them.
  static void expect_part_to_suffice(const FusedTransform& fused, const torch::Tensor& pixels, const DrawnImage& drawn,
                                     const torch::Tensor& whole) {
    const auto [top, left, height, width] = drawn.needed;
    const auto part = pixels.slice(0, static_cast<int64_t>(top), static_cast<int64_t>(top + height))
                          .slice(1, static_cast<int64_t>(left), static_cast<int64_t>(left + width));
    const Box box{drawn.box.top - top, drawn.box.left - left, drawn.box.height, drawn.box.width};
    EXPECT_TRUE(written(fused, view_of(part), box, drawn).equal(whole));
    const auto copy = part.contiguous();
    EXPECT_TRUE(written(fused, view_of(copy), box, drawn).equal(whole));
  }

  const std::vector<std::pair<int64_t, int64_t>> sizes_{{30, 40}, {75, 51}, {16, 16}, {1, 1}, {2, 90}, {300, 7}};
};

TEST_F(FusedTransforms, ARandomResizedCropHasTheStepsLevels) {
  expect_equal_to_steps(Compose{RandomResizedCrop(16), RandomHorizontalFlip(), RandomVerticalFlip()}, sizes_, 1);
  expect_equal_to_steps(Compose{RandomResizedCrop({9, 50})}, sizes_, 1);
  for (const int64_t channels : {1, 2, 4}) {
    expect_equal_to_steps(Compose{RandomResizedCrop({20, 33}), RandomHorizontalFlip()}, sizes_, 1, channels);
  }
}

TEST_F(FusedTransforms, NormalizedFloatsAreTheSteps) {
  // A level is at most 1 / 255 / 0.224.
  expect_equal_to_steps(Compose{RandomResizedCrop(37), RandomHorizontalFlip(), ToFloat(), Normalize(kMean, kStd)},
                        sizes_, 0.0176);
  expect_equal_to_steps(Compose{CenterCrop(37), ToFloat(), Normalize(kMean, kStd)}, sizes_, 1e-6);
  expect_equal_to_steps(Compose{CenterCrop(37), ToFloat(), RandomHorizontalFlip(), Normalize({0.5}, {0.2})}, sizes_,
                        1e-6);
  expect_equal_to_steps(Compose{CenterCrop(20), ToFloat()}, sizes_, 1e-6, 1);
}

TEST_F(FusedTransforms, AResizedCenterHasTheStepsLevels) {
  const std::vector<std::pair<int64_t, int64_t>> sizes{{30, 40}, {75, 51}, {16, 16}, {200, 90}};
  expect_equal_to_steps(Compose{Resize(20), CenterCrop(16)}, sizes, 1);
  expect_equal_to_steps(Compose{Resize(20, {.max_size = 22}), CenterCrop({16, 25})}, sizes, 1);
  expect_equal_to_steps(Compose{Resize({24, 48}), RandomVerticalFlip()}, sizes, 1);
  expect_equal_to_steps(Compose{Resize(20), RandomCrop(17)}, sizes, 1);
}

TEST_F(FusedTransforms, CropsWithPaddingAreTheSteps) {
  const std::vector<std::pair<int64_t, int64_t>> sizes{{32, 32}, {32, 41}, {60, 33}};
  const std::vector<RandomCropOptions> all_options = {
      {.padding = 4},
      {.padding = {1, 2, 3, 4}, .fill = {9, 80, 255}},
      {.padding = 7, .padding_mode = PaddingMode::edge},
      {.padding = 7, .padding_mode = PaddingMode::reflect},
      {.padding = {9, 5}, .padding_mode = PaddingMode::symmetric},
      {.padding = 60},
  };
  for (const auto& options : all_options) {
    expect_equal_to_steps(Compose{RandomCrop(32, options), RandomHorizontalFlip()}, sizes, 0);
    expect_equal_to_steps(Compose{RandomCrop({9, 12}, options), RandomVerticalFlip()}, sizes, 0);
  }
  expect_equal_to_steps(Compose{RandomCrop({70, 50}, {.pad_if_needed = true})}, sizes, 0);
  expect_equal_to_steps(Compose{Resize(20), RandomCrop(18, {.padding = 3, .padding_mode = PaddingMode::reflect})},
                        sizes, 1);
}

TEST_F(FusedTransforms, LargeReductionsHaveTheStepsLevels) {
  expect_equal_to_steps(Compose{Resize({7, 5})}, {{900, 1100}, {333, 2}, {3, 700}}, 1);
}

TEST_F(FusedTransforms, OtherChainsAreLeftToTheSteps) {
  const auto is_fused = [](const Compose& steps) { return FusedTransform::of(steps).has_value(); };
  EXPECT_TRUE(is_fused(Compose{Compose{CenterCrop(4)}, Compose{ToFloat(), Normalize({0}, {1})}}));
  EXPECT_FALSE(is_fused(Compose{Resize(8)})) << "sizes differ";
  EXPECT_FALSE(is_fused(Compose{ToFloat()})) << "sizes differ";
  EXPECT_FALSE(is_fused(Compose{RandomHorizontalFlip(), CenterCrop(8)}));
  EXPECT_FALSE(is_fused(Compose{ToFloat(), RandomResizedCrop(8)}));
  EXPECT_FALSE(is_fused(Compose{CenterCrop(8), Grayscale()}));
  EXPECT_FALSE(is_fused(Compose{CenterCrop(8), Normalize({0}, {1})})) << "uint8";
  EXPECT_FALSE(is_fused(Compose{CenterCrop(8), ToFloat(), Normalize({0}, {1}), Normalize({0}, {1})}));
}

TEST_F(FusedTransforms, AnImageDecodedAtHalfItsSizeGivesNearlyTheSame) {
  // A smooth image, for which scales make no difference.
  const auto ramp = torch::linspace(0, 200, 160).view({1, 160, 1}) + torch::linspace(0, 50, 120).view({120, 1, 1});
  const auto whole = ramp.expand({120, 160, 3}).to(torch::kUInt8).contiguous();
  const auto half = functional::resize(whole.permute({2, 0, 1}), {60, 80}).permute({1, 2, 0}).contiguous();
  const auto fused = *FusedTransform::of(Compose{RandomResizedCrop(24)});
  for (int seed = 0; seed < 20; ++seed) {
    torch::manual_seed(seed);
    const auto drawn = fused.draw(120, 160);
    const auto [top, left, height, width] = drawn.box;
    const auto exact = written(fused, view_of(whole), drawn.box, drawn);
    const auto scaled = written(fused, view_of(half), {top / 2, left / 2, height / 2, width / 2}, drawn);
    EXPECT_LE((exact.to(torch::kInt32) - scaled.to(torch::kInt32)).abs().max().item<int>(), 3) << "seed " << seed;
  }
}

TEST_F(FusedTransforms, WhatDoesNotFitTogetherIsNamed) {
  const auto fused = *FusedTransform::of(Compose{CenterCrop(8), ToFloat(), Normalize(kMean, kStd)});
  const auto pixels = random_pixels(10, 12, 3), gray = random_pixels(10, 12, 1);
  const auto drawn = fused.draw(10, 12);
  const auto refused = [&](const PixelView& source, const Box& box, torch::Tensor row) {
    return refusal([&] { fused.write(source, box, drawn, row); });
  };
  const auto row = torch::zeros({3, 8, 8});
  EXPECT_EQ(refused(view_of(pixels), drawn.box, row), "accepted");
  EXPECT_THAT(refused(view_of(pixels), drawn.box, torch::zeros({3, 8, 9})), HasSubstr("[3, 8, 9] of Float"));
  EXPECT_THAT(refused(view_of(pixels), drawn.box, row.to(torch::kUInt8)), HasSubstr("of Byte"));
  EXPECT_THAT(refused(view_of(pixels), drawn.box, torch::zeros({3, 8, 16}).slice(2, 0, 8)), HasSubstr("contiguous"));
  EXPECT_THAT(refused(view_of(gray), drawn.box, torch::zeros({1, 8, 8})), HasSubstr("for 3 channels"));
  EXPECT_THAT(refused(view_of(pixels), {5, 0, 10, 12}, row), HasSubstr("a source of 10 does not have"));
  EXPECT_THAT(refused(view_of(pixels), {0, 300, 10, 6}, row), HasSubstr("a source that has 12"));
  EXPECT_THAT(refused(view_of(pixels), {0, 0, -1, 12}, row), HasSubstr("a box of -1"));
  EXPECT_THAT(refused({nullptr, 10, 12, 3, 36}, drawn.box, row), HasSubstr("is no image"));
  const auto padded = *FusedTransform::of(Compose{RandomCrop(4, {.padding = 3, .padding_mode = PaddingMode::reflect})});
  EXPECT_THAT(refusal([&] { padded.draw(3, 9); }), HasSubstr("RandomCrop: the padding"));
  EXPECT_THAT(refusal([&] { FusedTransform::of(Compose{RandomCrop(9)})->draw(8, 20); }), HasSubstr("smaller"));
}

}  // namespace
}  // namespace troupe::transforms
