// Whole runs on a GPU. Without one every case is skipped, and CTest says so.
#include "tests/support/lines.hpp"
#include "troupe/runtime/device/copy_ahead.hpp"

#include <gtest/gtest.h>
#include <torch/cuda.h>

namespace troupe {
namespace {

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU here";
  }
};

TEST_F(Gpu, TrainsToTheSameLineAsTheCpu) {
  const TempDir dir;
  auto options = quiet(dir);
  options.max_epochs = 20;
  options.accelerator = Accelerator::cuda;
  Trainer trainer(options);
  const auto model = trainer.fit<Line>({.lr = 0.3}, points(), points());
  EXPECT_NEAR(model->weight(), 2, 0.01);
  EXPECT_TRUE(model->parameters()[0].is_cpu());  // given back to the host
}

TEST_F(Gpu, GoesOnFromACheckpointOfTheCpu) {
  const TempDir dir;
  auto options = quiet(dir);
  options.accelerator = Accelerator::cpu;
  Trainer(options).fit<Line>({}, points());
  options.accelerator = Accelerator::cuda;
  options.max_epochs = 4;
  Trainer second(options);
  second.fit<Line>({}, points(), {}, {.ckpt_path = "last"});
  EXPECT_EQ(second.global_step(), 16);
}

TEST_F(Gpu, CopiesAheadWhatIsUsedLater) {
  CopyAhead copier(torch::Device(torch::kCUDA, 0));
  std::vector<CopiedBatch> copied;
  for (int i = 0; i < 32; ++i) copied.push_back(copier.begin(Batch{torch::full({1000}, i)}.pin_memory()));
  for (int i = 0; i < 32; ++i) {
    const Batch batch = copier.finish(std::move(copied[static_cast<std::size_t>(i)]));
    EXPECT_EQ(batch[0].sum().item<int64_t>(), 1000 * i);
  }
}

TEST(CopyAhead, DoesNothingOnTheCpu) {
  CopyAhead copier(torch::kCPU);
  const auto tensor = torch::ones({3});
  CopiedBatch copied = copier.begin(Batch{tensor});
  EXPECT_EQ(copied.mark, nullptr);
  EXPECT_TRUE(copier.finish(std::move(copied))[0].is_same(tensor));
}

}  // namespace
}  // namespace troupe
