// With one seed, torchvision and the transforms draw the same parameters.
#include "tests/support/torchvision_cases.hpp"
#include "troupe/runtime/data/transforms/color.hpp"
#include "troupe/runtime/data/transforms/draws.hpp"
#include "troupe/runtime/data/transforms/mixing.hpp"
#include "troupe/runtime/data/transforms/transform.hpp"
#include "troupe/runtime/data/transforms/values.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

namespace troupe::transforms {
namespace {

/// Adds the transform's result for each of some seeds.
void add_seeded(TorchvisionCases& cases, const std::string& expression, const Transform& transform,
                const torch::Tensor& image, int seeds = 12, double difference = 1e-5) {
  for (int seed = 0; seed < seeds; ++seed) {
    torch::manual_seed(seed);
    cases.add("seeded(" + std::to_string(seed) + ", lambda: " + expression + "(image))", image, transform(image), 1,
              difference);
  }
}

class TransformDraws : public TorchvisionTest {
 protected:
  TransformDraws() { torch::manual_seed(7); }
  torch::Tensor floats_ = torch::rand({3, 21, 34});
  torch::Tensor levels_ = torch::randint(0, 256, {3, 34, 21}, torch::kUInt8);
};

TEST_F(TransformDraws, SingleNumbersAreThoseOfOneElementTensors) {
  for (int seed = 0; seed < 50; ++seed) {
    torch::manual_seed(seed);
    const auto uniform = torch::empty({1}).uniform_(0.08, 1.0).item<float>();
    const auto index = torch::randint(0, 1000, {1}).item<int64_t>();
    const auto large = torch::randint(0, int64_t{1} << 40, {1}).item<int64_t>();
    const bool chance = torch::rand({1}).item<float>() < 0.5F;
    torch::manual_seed(seed);
    EXPECT_EQ(draw_uniform(0.08, 1.0), uniform);
    EXPECT_EQ(draw_index(1000), index);
    EXPECT_EQ(draw_index(int64_t{1} << 40), large);
    EXPECT_EQ(draw_chance(0.5), chance);
  }
}

TEST_F(TransformDraws, RandomResizedCropTakesTorchvisionsCrops) {
  add_seeded(cases, "T.RandomResizedCrop(9)", RandomResizedCrop(9), floats_, 60);
  add_seeded(cases, "T.RandomResizedCrop([7, 12], scale=(0.5, 0.9), ratio=(0.2, 5.0))",
             RandomResizedCrop({7, 12}, {.scale = {0.5, 0.9}, .ratio = {0.2, 5}}), levels_, 30);
  // None of ten tries fits: the middle.
  const auto row = torch::rand({3, 2, 40}), column = torch::rand({3, 40, 2}), square = torch::rand({3, 8, 8});
  for (const auto& image : {row, column}) add_seeded(cases, "T.RandomResizedCrop(5)", RandomResizedCrop(5), image, 5);
  add_seeded(cases, "T.RandomResizedCrop(5, scale=(2.0, 3.0))", RandomResizedCrop(5, {.scale = {2, 3}}), square, 3);
}

TEST_F(TransformDraws, RandomCropTakesTorchvisionsCrops) {
  add_seeded(cases, "T.RandomCrop(16)", RandomCrop(16), floats_);
  add_seeded(cases, "T.RandomCrop([34, 10])", RandomCrop({34, 10}), levels_);
  add_seeded(cases, "T.RandomCrop(21, padding=4)", RandomCrop(21, {.padding = 4}), floats_);
  add_seeded(cases, "T.RandomCrop(21, padding=[4, 2], padding_mode='reflect')",
             RandomCrop(21, {.padding = {4, 2}, .padding_mode = PaddingMode::reflect}), levels_);
  add_seeded(cases, "T.RandomCrop(24, padding=[1, 2, 3, 4], fill=[9, 8, 7])",
             RandomCrop(24, {.padding = {1, 2, 3, 4}, .fill = {9, 8, 7}}), levels_);
  add_seeded(cases, "T.RandomCrop([40, 36], pad_if_needed=True)", RandomCrop({40, 36}, {.pad_if_needed = true}),
             floats_);
}

TEST_F(TransformDraws, FlipsAndGrayscaleComeWithTorchvisionsImages) {
  add_seeded(cases, "T.RandomHorizontalFlip()", RandomHorizontalFlip(), floats_);
  add_seeded(cases, "T.RandomHorizontalFlip(0.9)", RandomHorizontalFlip(0.9), floats_);
  add_seeded(cases, "T.RandomVerticalFlip(0.3)", RandomVerticalFlip(0.3), levels_);
  add_seeded(cases, "T.RandomGrayscale(0.4)", RandomGrayscale(0.4), levels_);
  add_seeded(cases, "T.RandomApply([T.RandomHorizontalFlip(0.5), T.Grayscale(3)], p=0.6)",
             RandomApply(Compose{RandomHorizontalFlip(0.5), Grayscale(3)}, 0.6), levels_);
}

TEST_F(TransformDraws, ColorJitterUsesTorchvisionsFactorsInItsOrder) {
  add_seeded(cases, "T.ColorJitter(0.4, 0.5, 0.6, 0.2)",
             ColorJitter({.brightness = 0.4, .contrast = 0.5, .saturation = 0.6, .hue = 0.2}), floats_, 30);
  // In uint8, hue may turn a difference of one level before it into several.
  add_seeded(cases, "T.ColorJitter(0.4, (0.5, 1.1), 1.5)",
             ColorJitter({.brightness = 0.4, .contrast = {0.5, 1.1}, .saturation = 1.5}), levels_);
  add_seeded(cases, "T.ColorJitter(hue=(-0.5, 0.1))", ColorJitter({.hue = {-0.5, 0.1}}), levels_);
  add_seeded(cases, "T.ColorJitter()", ColorJitter({}), levels_, 2);
}

TEST_F(TransformDraws, RandomErasingErasesTorchvisionsRegions) {
  add_seeded(cases, "T.RandomErasing()", RandomErasing(), floats_, 30);
  add_seeded(cases, "T.RandomErasing(1.0, value=[1, 2, 3])", RandomErasing({.p = 1, .value = {1, 2, 3}}), levels_);
  add_seeded(cases, "T.RandomErasing(0.8, scale=(0.1, 0.9), ratio=(0.1, 4.0), value='random')",
             RandomErasing({.p = 0.8, .scale = {0.1, 0.9}, .ratio = {0.1, 4}, .value = {}}), floats_);
}

TEST_F(TransformDraws, ChainsDrawInOrder) {
  constexpr double level = 1 / 255.0 / 0.2 + 1e-5;
  const Compose chain{RandomResizedCrop(12), RandomHorizontalFlip(), ToFloat(),
                      Normalize({0.5, 0.5, 0.5}, {0.2, 0.2, 0.2}), RandomErasing()};
  add_seeded(cases,
             "T.Compose([T.RandomResizedCrop(12), T.RandomHorizontalFlip(), T.ToDtype(torch.float32, scale=True), "
             "T.Normalize([0.5] * 3, [0.2] * 3), T.RandomErasing()])",
             chain, levels_, 20, level);
}

TEST_F(TransformDraws, MixUpAndCutMixAreTorchvisions) {
  const auto images = torch::rand({6, 3, 9, 14}), labels = torch::arange(6) % 5;
  for (int seed = 0; seed < 10; ++seed) {
    for (const double alpha : {1.0, 0.2}) {
      for (int part = 0; part < 2; ++part) {
        const auto call = [&](const std::string& name) {
          return "seeded(" + std::to_string(seed) + ", lambda: T." + name + "(alpha=" + std::to_string(alpha) +
                 ", num_classes=5)(image, torch.arange(6) % 5)[" + std::to_string(part) + "])";
        };
        torch::manual_seed(seed);
        cases.add(call("MixUp"), images, MixUp({.alpha = alpha, .num_classes = 5})({images, labels})[part]);
        torch::manual_seed(seed);
        cases.add(call("CutMix"), images, CutMix({.alpha = alpha, .num_classes = 5})({images, labels})[part]);
      }
    }
  }
}

}  // namespace
}  // namespace troupe::transforms
