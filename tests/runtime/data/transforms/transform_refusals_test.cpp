#include "tests/support/refusal.hpp"
#include "troupe/runtime/data/transforms/color.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/geometry.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"
#include "troupe/runtime/data/transforms/values.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace troupe::transforms {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kNoNumber = std::numeric_limits<double>::quiet_NaN();

TEST(TransformRefusals, ProbabilitiesLieBetween0And1) {
  EXPECT_THAT(refusal([] { RandomHorizontalFlip(1.5); }), HasSubstr("p is 1.5; a probability from 0 to 1"));
  EXPECT_THAT(refusal([] { RandomVerticalFlip(-0.1); }), HasSubstr("RandomVerticalFlip: p is -0.1"));
  EXPECT_THAT(refusal([] { RandomGrayscale{kNoNumber}; }), HasSubstr("p is nan"));
  EXPECT_THAT(refusal([] { RandomErasing({.p = 2}); }), HasSubstr("RandomErasing: p is 2.0"));
  EXPECT_THAT(refusal([] { RandomApply(Compose{ToFloat()}, 7); }), HasSubstr("RandomApply: p is 7.0"));
}

TEST(TransformRefusals, RangesAreInOrder) {
  EXPECT_THAT(refusal([] {
                RandomResizedCrop(8, {.scale = {1.0, 0.08}});
              }),
              AllOf(HasSubstr("scale is (1.0, 0.08)"), HasSubstr("the lower one first")));
  EXPECT_THAT(refusal([] { RandomResizedCrop(8, {.ratio = {0, 1}}); }), HasSubstr("two numbers above 0.0"));
  EXPECT_THAT(refusal([] { RandomErasing({.scale = {0, 1.1}}); }), HasSubstr("from 0.0 to 1.0"));
  EXPECT_THAT(refusal([] { ColorJitter({.brightness = -0.1}); }), HasSubstr("brightness is -0.1"));
  EXPECT_THAT(refusal([] { ColorJitter({.contrast = {2, 1}}); }), HasSubstr("contrast is (2.0, 1.0)"));
  EXPECT_THAT(refusal([] { ColorJitter({.hue = 0.6}); }), HasSubstr("hue is 0.6; a number from 0 to 0.5"));
  EXPECT_THAT(refusal([] { ColorJitter({.hue = {-0.6, 0}}); }), HasSubstr("from -0.5 to 0.5"));
}

TEST(TransformRefusals, SizesAreAtLeastOnePixel) {
  EXPECT_THAT(refusal([] { Resize(0); }), HasSubstr("the size is (0, 0)"));
  EXPECT_THAT(refusal([] { CenterCrop({3, -1}); }), HasSubstr("the size is (3, -1)"));
  EXPECT_THAT(refusal([] { RandomCrop(0); }), HasSubstr("at least 1"));
  EXPECT_THAT(refusal([] { RandomResizedCrop({0, 4}); }), HasSubstr("RandomResizedCrop: the size is (0, 4)"));
  EXPECT_THAT(refusal([] { Resize(8, {.max_size = 8}); }), HasSubstr("max_size is 8; more than the size, 8"));
  EXPECT_THAT(refusal([] { Resize(6, {.max_size = 8})(torch::rand({3, 1, 9})); }), HasSubstr("leaves no pixel"));
  EXPECT_THAT(refusal([] { Resize(8)(torch::rand({3, 0, 5})); }), HasSubstr("(0, 5) has no pixels"));
}

TEST(TransformRefusals, NormalizationNeedsValuesForTheChannels) {
  EXPECT_THAT(refusal([] { Normalize({0.5}, {0}); }), HasSubstr("std of channel 0 is 0.0"));
  EXPECT_THAT(refusal([] { Normalize({}, {1}); }), HasSubstr("0 means and 1 standard deviations"));
  EXPECT_THAT(refusal([] { Normalize({1, 2}, {1, 2, 3}); }), HasSubstr("2 means and 3"));
  EXPECT_THAT(refusal([] { Normalize({1, 2}, {1, 2})(torch::rand({3, 2, 2})); }), HasSubstr("for 2 channels"));
  EXPECT_THAT(refusal([] {
                Normalize({1}, {1})(torch::ones({3, 2, 2}, torch::kUInt8));
              }),
              AllOf(HasSubstr("[3, 2, 2] of Byte"), HasSubstr("ToFloat")));
}

TEST(TransformRefusals, AnImageHasChannelsAndAKnownType) {
  const Compose all{RandomHorizontalFlip(1)};
  EXPECT_THAT(refusal([&] { all(torch::rand({4, 4})); }), HasSubstr("not [4, 4] of Float"));
  EXPECT_THAT(refusal([&] { all(torch::ones({3, 4, 4}, torch::kInt64)); }), HasSubstr("of Long"));
  EXPECT_THAT(refusal([&] { all(torch::Tensor()); }), HasSubstr("an undefined tensor"));
  EXPECT_THAT(refusal([] { Grayscale()(torch::rand({4, 2, 2})); }), HasSubstr("1 or 3 channels, not 4"));
  EXPECT_THAT(refusal([] { ColorJitter({})(torch::rand({2, 2, 2})); }), HasSubstr("1 or 3 channels, not 2"));
  EXPECT_THAT(refusal([] { Grayscale(2); }), HasSubstr("num_output_channels is 2"));
}

// Whether or not the draw says that the image is changed.
TEST(TransformRefusals, AnImageIsCheckedWithoutBeingChanged) {
  const auto no_image = torch::rand({4, 4});
  EXPECT_THAT(refusal([&] { RandomHorizontalFlip(0)(no_image); }), HasSubstr("RandomHorizontalFlip takes images"));
  EXPECT_THAT(refusal([&] { RandomVerticalFlip(0)(no_image); }), HasSubstr("RandomVerticalFlip takes images"));
  EXPECT_THAT(refusal([&] { RandomApply(Compose{ToFloat()}, 0)(no_image); }), HasSubstr("RandomApply takes images"));
}

TEST(TransformRefusals, FactorsAreInRange) {
  const auto image = torch::rand({3, 2, 2});
  EXPECT_THAT(refusal([&] { functional::adjust_brightness(image, -1); }), HasSubstr("brightness_factor is -1.0"));
  EXPECT_THAT(refusal([&] { functional::adjust_contrast(image, kNoNumber); }), HasSubstr("contrast_factor is nan"));
  EXPECT_THAT(refusal([&] { functional::adjust_saturation(image, -0.5); }), HasSubstr("saturation_factor"));
  EXPECT_THAT(refusal([&] { functional::adjust_hue(image, 0.51); }), HasSubstr("from -0.5 to 0.5"));
}

TEST(TransformRefusals, PaddingFitsTheImage) {
  const auto image = torch::rand({3, 4, 5});
  EXPECT_THAT(refusal([&] { functional::pad(image, 4, {0}, PaddingMode::reflect); }),
              HasSubstr("at most 4 columns and 3 rows can be mirrored"));
  EXPECT_THAT(refusal([&] { functional::pad(image, 5, {0}, PaddingMode::symmetric); }), HasSubstr("too large"));
  EXPECT_THAT(refusal([&] { functional::pad(image, {0, -2}); }), HasSubstr("leaves nothing"));
  EXPECT_THAT(refusal([&] { functional::pad(image, 1, {1, 2}); }), HasSubstr("the fill has 2 values"));
  EXPECT_THAT(refusal([&] { Pad(1, {.fill = {256}})(image.to(torch::kUInt8)); }), HasSubstr("the fill 256.0"));
  EXPECT_THAT(refusal([] { Pad(1, {.fill = {}}); }), HasSubstr("no values"));
}

TEST(TransformRefusals, ARandomCropFitsIntoThePaddedImage) {
  EXPECT_THAT(refusal([] { RandomCrop(8).draw(7, 9); }), AllOf(HasSubstr("(7, 9)"), HasSubstr("pad_if_needed")));
  EXPECT_THAT(refusal([] { RandomCrop(12, {.padding = 2}).draw(7, 9); }), HasSubstr("with its padding"));
  EXPECT_THAT(refusal([] { RandomCrop(12, {.padding = {0, -1}}); }), HasSubstr("the padding is -1"));
}

TEST(TransformRefusals, NoiseAndRegionsFitTheImage) {
  const auto levels = torch::ones({3, 9, 9}, torch::kUInt8);
  EXPECT_THAT(refusal([&] { RandomErasing({.value = {}})(levels); }), HasSubstr("noise"));
  EXPECT_THAT(refusal([&] { RandomErasing({.value = {300}})(levels); }), HasSubstr("the fill 300.0"));
  EXPECT_THAT(refusal([&] { functional::erase(levels, {5, 5, 5, 1}, torch::zeros({})); }), HasSubstr("reaches beyond"));
}

TEST(TransformRefusals, AChainHasSteps) {
  using StepList = std::vector<std::shared_ptr<const Transform>>;
  EXPECT_THAT(refusal([] { Compose{StepList{}}; }), HasSubstr("no steps"));
  EXPECT_THAT(refusal([] { Compose{StepList{std::make_shared<ToFloat>(), nullptr}}; }), HasSubstr("step 1"));
}

}  // namespace
}  // namespace troupe::transforms
