#include "tests/support/torchvision_cases.hpp"
#include "troupe/runtime/data/transforms/functional.hpp"
#include "troupe/runtime/data/transforms/geometry.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

namespace troupe::transforms {
namespace {

std::string list_text(std::vector<int64_t> numbers) {
  std::string out = "[";
  for (const int64_t number : numbers) out += std::to_string(number) + ",";
  return out + "]";
}

std::string resize_text(const torch::Tensor& image, int64_t height, int64_t width) {
  const std::string size = list_text({height, width});
  // LibTorch 2.11 computes wrong levels, or fails, where the result is one pixel wide.
  const bool as_float = width == 1 && !image.is_floating_point();
  return as_float ? "F.resize(image.float(), " + size + ").round().to(torch.uint8)" : "F.resize(image, " + size + ")";
}

class TransformGeometry : public TorchvisionTest {
 protected:
  TransformGeometry() { torch::manual_seed(5); }
};

TEST_F(TransformGeometry, ResizingToAHeightAndAWidthGivesTorchvisionsPixels) {
  for (const auto& image : images_of_many_kinds()) {
    for (const auto& [height, width] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {9, 1}, {1, 9}, {5, 8}, {13, 7}, {31, 64}}) {
      cases.add(resize_text(image, height, width), image, functional::resize(image, {height, width}));
    }
  }
}

TEST_F(TransformGeometry, ResizingTheShorterSideGivesTorchvisionsSizeAndPixels) {
  for (const auto& image : images_of_many_kinds()) {
    cases.add("T.Resize(6)(image)", image, Resize(6)(image));
    if (std::max(image.size(-1), image.size(-2)) < 8 * std::min(image.size(-1), image.size(-2))) {
      cases.add("T.Resize(6, max_size=8)(image)", image, Resize(6, {.max_size = 8})(image));
    }
    cases.add("T.Resize([4, 9])(image)", image, Resize({4, 9})(image));
  }
}

TEST_F(TransformGeometry, CropsAreTorchvisionsBeyondTheEdgesToo) {
  const std::vector<Crop> crops = {{0, 0, 1, 1}, {-2, 1, 5, 4}, {3, -3, 40, 60}, {2, 2, 3, 1}, {0, 5, 2, 9}};
  for (const auto& image : images_of_many_kinds()) {
    for (const auto& [top, left, height, width] : crops) {
      const auto numbers = list_text({top, left, height, width});
      cases.add("F.crop(image, *" + numbers + ")", image, functional::crop(image, top, left, height, width));
      if (top < image.size(-2) && left < image.size(-1)) {
        cases.add("F.resized_crop(image, *" + numbers + ", [7, 10])", image,
                  functional::resized_crop(image, top, left, height, width, {7, 10}));
      }
    }
    for (const auto size : {Size(1), Size(4, 9), Size(11), Size(60, 8)}) {
      cases.add("F.center_crop(image, " + list_text({size.height, size.width}) + ")", image, CenterCrop(size)(image));
    }
  }
}

TEST_F(TransformGeometry, ACropThatMissesTheImageIsBlack) {
  const auto image = torch::rand({3, 8, 8});
  EXPECT_TRUE(functional::crop(image, -10, 0, 5, 4).equal(torch::zeros({3, 5, 4})));
  EXPECT_TRUE(functional::crop(image, 2, 9, 5, 4).equal(torch::zeros({3, 5, 4})));
}

TEST_F(TransformGeometry, PaddingIsTorchvisionsInAllModes) {
  const std::vector<std::tuple<PaddingMode, std::string, int64_t>> modes = {{PaddingMode::constant, "constant", 9},
                                                                            {PaddingMode::edge, "edge", 9},
                                                                            {PaddingMode::reflect, "reflect", -1},
                                                                            {PaddingMode::symmetric, "symmetric", 0}};
  for (const auto& image : images_of_many_kinds()) {
    if (image.dim() > 4) continue;  // torchvision: "Symmetric padding of N-D tensors are not supported yet"
    for (const auto& [mode, name, more] : modes) {
      // As much as an image of this size can mirror.
      const int64_t rows = std::min<int64_t>(3, image.size(-2) + more);
      const int64_t columns = std::min<int64_t>(4, image.size(-1) + more);
      const Padding padding(columns, 0, columns / 2, rows);
      cases.add("F.pad(image, " + list_text({columns, 0, columns / 2, rows}) + ", padding_mode='" + name + "')", image,
                functional::pad(image, padding, {0}, mode));
    }
    if (image.size(-3) != 3) continue;
    const std::vector<double> fill =
        image.is_floating_point() ? std::vector<double>{0.1, 0.2, 0.3} : std::vector<double>{10, 120.5, 255};
    const std::string values = image.is_floating_point() ? "[0.1, 0.2, 0.3]" : "[10, 120.5, 255]";
    cases.add("T.Pad([1, 2], fill=" + values + ")(image)", image, Pad({1, 2}, {.fill = fill})(image));
    cases.add("T.Pad(2, fill=" + values + "[0])(image)", image, Pad(2, {.fill = {fill[0]}})(image));
  }
}

TEST_F(TransformGeometry, NegativePaddingCutsOff) {
  const auto image = torch::rand({3, 9, 8});
  cases.add("F.pad(image, [-2, 1, 3, -4])", image, functional::pad(image, {-2, 1, 3, -4}));
}

TEST_F(TransformGeometry, FlipsMirrorEachImage) {
  for (const auto& image : images_of_many_kinds()) {
    cases.add("F.horizontal_flip(image)", image, functional::horizontal_flip(image));
    cases.add("F.vertical_flip(image)", image, functional::vertical_flip(image));
  }
}

}  // namespace
}  // namespace troupe::transforms
