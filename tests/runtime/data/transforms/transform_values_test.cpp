#include "tests/support/torchvision_cases.hpp"
#include "troupe/base/number_text.hpp"
#include "troupe/runtime/data/transforms/color.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/values.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

namespace troupe::transforms {
namespace {

/// Of many kinds, and grey, black and of pure colours.
std::vector<torch::Tensor> images_of_many_colors() {
  auto images = images_of_many_kinds();
  images.push_back(torch::randint(0, 256, {1, 6, 7}, torch::kUInt8).expand({3, 6, 7}));
  images.push_back(torch::rand({1, 6, 7}).expand({3, 6, 7}));
  images.push_back(torch::zeros({3, 5, 5}));
  images.push_back(torch::randint(0, 2, {3, 8, 8}, torch::kUInt8).mul(255));
  images.push_back(torch::randint(0, 2, {3, 8, 8}).to(torch::kFloat32));
  return images;
}

class TransformValues : public TorchvisionTest {
 protected:
  TransformValues() { torch::manual_seed(6); }
};

TEST_F(TransformValues, BrightnessContrastAndSaturationAreTorchvisions) {
  for (const auto& image : images_of_many_colors()) {
    for (const double factor : {0.0, 0.37, 1.0, 2.5}) {
      const auto call = [&](const std::string& name) {
        return "F." + name + "(image, " + double_to_text(factor) + ")";
      };
      cases.add(call("adjust_brightness"), image, functional::adjust_brightness(image, factor));
      cases.add(call("adjust_contrast"), image, functional::adjust_contrast(image, factor));
      cases.add(call("adjust_saturation"), image, functional::adjust_saturation(image, factor));
    }
  }
}

TEST_F(TransformValues, HueIsTorchvisions) {
  for (const auto& image : images_of_many_colors()) {
    for (const double factor : {-0.5, -0.21, 0.0, 0.08, 0.5}) {
      cases.add("F.adjust_hue(image, " + double_to_text(factor) + ")", image, functional::adjust_hue(image, factor));
    }
  }
}

TEST_F(TransformValues, GrayIsTorchvisions) {
  for (const auto& image : images_of_many_colors()) {
    cases.add("F.rgb_to_grayscale(image)", image, Grayscale()(image));
    cases.add("F.rgb_to_grayscale(image, num_output_channels=3)", image, Grayscale(3)(image));
  }
}

TEST_F(TransformValues, FloatsAndNormalizedValuesAreTorchvisions) {
  for (const auto& image : images_of_many_kinds()) {
    cases.add("F.to_dtype(image, torch.float32, scale=True)", image, ToFloat()(image));
    const auto floats = ToFloat()(image);
    cases.add("F.normalize(image, [0.4], [0.2])", floats, Normalize({0.4}, {0.2})(floats));
    if (image.size(-3) != 3) continue;
    cases.add("F.normalize(image, [0.5, 0.4, 0.3], [0.2, 0.3, 0.25])", floats,
              Normalize({0.5, 0.4, 0.3}, {0.2, 0.3, 0.25})(floats));
  }
}

TEST_F(TransformValues, AnErasedRegionHasTheGivenValue) {
  for (const auto& image : images_of_many_kinds()) {
    if (image.size(-2) < 5 || image.size(-1) < 5 || image.size(-3) != 3) continue;
    cases.add("F.erase(image, 1, 2, 4, 3, torch.tensor([1., 2., 3.])[:, None, None])", image,
              functional::erase(image, {1, 2, 4, 3}, torch::tensor({1.0, 2.0, 3.0}).view({3, 1, 1})));
  }
}

TEST_F(TransformValues, TheImageThatIsGivenStaysAsItIs) {
  const auto image = torch::rand({3, 8, 8}), before = image.clone();
  const auto levels = torch::randint(0, 256, {3, 8, 8}, torch::kUInt8), levels_before = levels.clone();
  for (const auto& given : {image, levels}) {
    functional::adjust_brightness(given, 0.5);
    functional::adjust_contrast(given, 0.5);
    functional::adjust_saturation(given, 0.5);
    functional::adjust_hue(given, 0.3);
    functional::rgb_to_grayscale(given);
    functional::normalize(ToFloat()(given), {0.5}, {0.5});
    functional::erase(given, {0, 0, 2, 2}, torch::zeros({}));
  }
  EXPECT_TRUE(image.equal(before));
  EXPECT_TRUE(levels.equal(levels_before));
}

}  // namespace
}  // namespace troupe::transforms
