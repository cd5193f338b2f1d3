#include "tests/support/refusal.hpp"
#include "tests/support/torchvision_cases.hpp"
#include "troupe/runtime/data/transforms/mixing.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>
#include <string>
#include <vector>

namespace troupe::transforms {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TransformMixing : public TorchvisionTest {
 protected:
  TransformMixing() { torch::manual_seed(8); }
  torch::Tensor images_ = torch::rand({4, 3, 10, 7}), labels_ = torch::arange(4) % 5;
  MixUp mixup_{{.num_classes = 5}};
  CutMix cutmix_{{.num_classes = 5}};
};

TEST_F(TransformMixing, GivenSharesAndBoxesGiveTorchvisionsBatches) {
  const auto levels = torch::randint(0, 256, {4, 3, 10, 7}, torch::kUInt8);
  for (int part = 0; part < 2; ++part) {
    const auto end = ")[" + std::to_string(part) + "]";
    cases.add("mixed(T.MixUp(num_classes=5), image, lam=0.3" + end, images_,
              mixup_.apply({images_, labels_}, 0.3)[part]);
    cases.add("mixed(T.MixUp(num_classes=5), image, lam=1.0" + end, images_, mixup_.apply({images_, labels_}, 1)[part]);
    for (const auto& images : {images_, levels}) {
      cases.add("mixed(T.CutMix(num_classes=5), image, box=(1, 2, 5, 9), lam_adjusted=0.6" + end, images,
                cutmix_.apply({images, labels_}, {1, 2, 5, 9, 0.6})[part]);
    }
    cases.add("mixed(T.CutMix(num_classes=5), image, box=(3, 3, 3, 3), lam_adjusted=1.0" + end, images_,
              cutmix_.apply({images_, labels_}, {3, 3, 3, 3, 1})[part]);
  }
}

TEST_F(TransformMixing, SoftLabelsStaySoftAndEverythingElseStays) {
  Batch batch({images_, torch::eye(4), torch::arange(4)});
  const auto mixed = MixUp().apply(batch, 0.25);
  EXPECT_EQ(mixed.tensor_count(), 3U);
  EXPECT_TRUE(mixed[1][0].allclose(torch::tensor({0.25, 0.0, 0.0, 0.75})));
  EXPECT_TRUE(mixed[2].equal(torch::arange(4)));
  EXPECT_TRUE(batch[0].equal(images_));
}

TEST_F(TransformMixing, ALoaderMixesAtCollateTime) {
  std::vector<Batch> samples;
  for (int64_t i = 0; i < 4; ++i) samples.push_back({images_[i], labels_[i]});
  torch::manual_seed(3);
  const auto collated = mixup_.collate()(samples);
  torch::manual_seed(3);
  const auto mixed = mixup_({images_, labels_});
  EXPECT_TRUE(collated[0].equal(mixed[0]));
  EXPECT_TRUE(collated[1].equal(mixed[1]));
  EXPECT_EQ(collated[1].sizes(), at::IntArrayRef({4, 5}));
  EXPECT_EQ(cutmix_.collate()(samples)[0].sizes(), images_.sizes());
}

TEST_F(TransformMixing, WhatCannotBeMixedIsNamed) {
  const auto refused = [](const auto& mix, Batch batch) { return refusal([&] { mix(batch); }); };
  EXPECT_THAT(refused(mixup_, {images_.to(torch::kUInt8), labels_}), AllOf(HasSubstr("Byte"), HasSubstr("ToFloat")));
  EXPECT_THAT(refused(mixup_, {images_[0], labels_}), HasSubstr("[N, C, H, W], not [3, 10, 7]"));
  EXPECT_THAT(refused(mixup_, {images_}), HasSubstr("not of 1 tensors"));
  EXPECT_THAT(refused(cutmix_, {images_, torch::arange(3)}), HasSubstr("one label for each of the 4 images"));
  EXPECT_THAT(refused(cutmix_, {images_, torch::tensor({0, 1, 5, 2})}), HasSubstr("a label is 5; 0 to 4"));
  EXPECT_THAT(refused(cutmix_, {images_, torch::tensor({0, -1, 4, 2})}), HasSubstr("a label is -1; 0 to 4"));
  EXPECT_THAT(refused(cutmix_, {images_, torch::rand({4, 3})}), HasSubstr("num_classes is 5, but the labels"));
  EXPECT_THAT(refused(cutmix_, {images_, torch::rand({4})}), HasSubstr("whole numbers"));
  EXPECT_THAT(refused(MixUp(), {images_, labels_}), HasSubstr(".num_classes"));
}

TEST_F(TransformMixing, OptionsAndParametersThatMeanNothingAreNamed) {
  EXPECT_THAT(refusal([] { MixUp({.alpha = 0}); }), HasSubstr("alpha is 0.0; a finite number above 0"));
  EXPECT_THAT(refusal([] { CutMix({.alpha = std::numeric_limits<double>::quiet_NaN()}); }), HasSubstr("alpha is nan"));
  EXPECT_THAT(refusal([] { CutMix({.num_classes = 0}); }), HasSubstr("num_classes is 0"));
  EXPECT_THAT(refusal([&] { mixup_.apply({images_, labels_}, 1.5); }), HasSubstr("lambda is 1.5"));
  EXPECT_THAT(refusal([&] {
                cutmix_.apply({images_, labels_}, {0, 0, 8, 2, 0.5});
              }),
              HasSubstr("lies outside of images of (10, 7)"));
}

}  // namespace
}  // namespace troupe::transforms
