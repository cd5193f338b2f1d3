#include "troupe/runtime/precision/grad_scaler.hpp"

#include "tests/refusal.hpp"
#include "troupe/modules/failure.hpp"
#include "troupe/modules/precision.hpp"
#include "troupe/runtime/precision/autocast.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

namespace troupe {
namespace {

using ::testing::HasSubstr;

constexpr float infinity = std::numeric_limits<float>::infinity();

// One parameter w with the gradient that a test gives it.
struct Step {
  torch::Tensor w = torch::ones({2}, torch::requires_grad());
  torch::optim::SGD optimizer{{w}, 0.1};

  bool take(GradScaler& scaler, float gradient) {
    optimizer.zero_grad();
    scaler.scale((w * gradient).sum()).backward();
    const bool stepped = scaler.step(optimizer, [&] { optimizer.step(); });
    scaler.update();
    return stepped;
  }
};

TEST(GradScaler, AScaledStepIsThePlainStep) {
  GradScaler scaler(torch::kCPU);
  Step step;
  EXPECT_TRUE(step.take(scaler, 3));
  EXPECT_TRUE(torch::allclose(step.w, torch::full({2}, 0.7)));
  EXPECT_EQ(step.w.grad()[0].item<float>(), 3);
}

TEST(GradScaler, UnscalesOnceHoweverOftenItIsAsked) {
  GradScaler scaler(torch::kCPU);
  Step step;
  scaler.scale((step.w * 3).sum()).backward();
  scaler.unscale(step.optimizer);
  scaler.unscale(step.optimizer);
  EXPECT_EQ(step.w.grad()[0].item<float>(), 3);
  EXPECT_TRUE(scaler.step(step.optimizer, [] {}));
  EXPECT_EQ(step.w.grad()[0].item<float>(), 3);
}

TEST(GradScaler, LeavesOutAStepThatIsNotFiniteAndBacksOff) {
  GradScaler scaler(torch::kCPU, {.init_scale = 8});
  Step step;
  EXPECT_FALSE(step.take(scaler, infinity));
  EXPECT_EQ(step.w[0].item<float>(), 1);
  EXPECT_EQ(scaler.current_scale(), 4);
  EXPECT_EQ(scaler.skipped_steps(), 1);
  EXPECT_TRUE(step.take(scaler, 1));
  EXPECT_EQ(scaler.current_scale(), 4);
}

TEST(GradScaler, GrowsAfterTheIntervalWithoutAnOverflow) {
  GradScaler scaler(torch::kCPU, {.init_scale = 8, .growth_interval = 3});
  Step step;
  for (const double scale : {8, 8, 16}) {
    step.take(scaler, 1);
    EXPECT_EQ(scaler.current_scale(), scale);
  }
  step.take(scaler, 1);
  step.take(scaler, 1);
  step.take(scaler, infinity);  // counts anew
  EXPECT_EQ(scaler.current_scale(), 8);
  step.take(scaler, 1);
  step.take(scaler, 1);
  EXPECT_EQ(scaler.current_scale(), 8);
  step.take(scaler, 1);
  EXPECT_EQ(scaler.current_scale(), 16);
}

TEST(GradScaler, OneOptimizersOverflowLeavesTheOthersStep) {
  GradScaler scaler(torch::kCPU, {.init_scale = 8});
  Step good, bad;
  scaler.scale(good.w.sum()).backward();
  scaler.scale((bad.w * infinity).sum()).backward();
  EXPECT_TRUE(scaler.step(good.optimizer, [&] { good.optimizer.step(); }));
  EXPECT_FALSE(scaler.step(bad.optimizer, [&] { bad.optimizer.step(); }));
  scaler.update();
  EXPECT_EQ(scaler.current_scale(), 4);
  EXPECT_NEAR(good.w[0].item<float>(), 0.9, 1e-6);
}

TEST(GradScaler, GoesOnFromItsState) {
  GradScaler scaler(torch::kCPU, {.init_scale = 8, .growth_interval = 3});
  Step step;
  step.take(scaler, infinity);
  step.take(scaler, 1);
  step.take(scaler, 1);
  GradScaler resumed(torch::kCPU);
  resumed.load_state_dict(scaler.state_dict());
  EXPECT_EQ(resumed.state_dict(), scaler.state_dict());
  step.take(resumed, 1);
  EXPECT_EQ(resumed.current_scale(), 8);
}

TEST(GradScaler, RefusesADamagedStateAndKeepsItsOwn) {
  GradScaler scaler(torch::kCPU);
  const auto good = scaler.state_dict();
  const std::vector<std::pair<std::string, nlohmann::json>> damages = {{"scale", 0},
                                                                       {"scale", "x"},
                                                                       {"growth_factor", 1},
                                                                       {"backoff_factor", 1.5},
                                                                       {"growth_interval", 0.5},
                                                                       {"_growth_tracker", -1},
                                                                       {"skipped_steps", 1e300}};
  for (const auto& [key, value] : damages) {
    auto state = good;
    state[key] = value;
    EXPECT_THROW(scaler.load_state_dict(state), UsageError) << key;
  }
  EXPECT_THROW(scaler.load_state_dict(nlohmann::json()), UsageError);
  EXPECT_THROW(scaler.load_state_dict({1, 2}), UsageError);
  EXPECT_EQ(scaler.state_dict(), good);
}

TEST(GradScaler, RefusesOptionsThatCannotBe) {
  EXPECT_THROW(GradScaler(torch::kCPU, {.init_scale = 0}), UsageError);
  EXPECT_THROW(GradScaler(torch::kCPU, {.growth_factor = 1}), UsageError);
  EXPECT_THROW(GradScaler(torch::kCPU, {.backoff_factor = 1}), UsageError);
  EXPECT_THROW(GradScaler(torch::kCPU, {.growth_interval = 0}), UsageError);
}

TEST(Precision, IsReadFromLightningsNames) {
  EXPECT_EQ(precision_from_text("32"), Precision::float32);
  EXPECT_EQ(precision_from_text("bf16"), Precision::bfloat16_mixed);
  EXPECT_EQ(precision_from_text("16-true"), Precision::float16_true);
  EXPECT_EQ(to_string(Precision::float64), "64-true");
  EXPECT_EQ(parameter_type(Precision::bfloat16_true), torch::kBFloat16);
  EXPECT_EQ(parameter_type(Precision::float16_mixed), torch::kFloat32);
  EXPECT_EQ(bits_of(Precision::bfloat16_mixed), 16);
  EXPECT_THAT(refusal([] { precision_from_text("bf16-mixd"); }), HasSubstr("did you mean bf16-mixed?"));
}

TEST(Autocast, RunsMatrixProductsInTheShorterFormatAndEndsWithItsScope) {
  const auto a = torch::ones({2, 2});
  {
    const Autocast autocast(Precision::bfloat16_mixed, torch::kCPU);
    EXPECT_EQ(a.mm(a).scalar_type(), torch::kBFloat16);
    {
      const Autocast inner(Precision::float16_mixed, torch::kCPU);
      EXPECT_EQ(a.mm(a).scalar_type(), torch::kFloat16);
    }
    EXPECT_EQ(a.mm(a).scalar_type(), torch::kBFloat16);
  }
  EXPECT_EQ(a.mm(a).scalar_type(), torch::kFloat32);
  const Autocast none(Precision::float64, torch::kCPU);
  EXPECT_EQ(a.mm(a).scalar_type(), torch::kFloat32);
}

}  // namespace
}  // namespace troupe
