#include "troupe/runtime/precision/grad_scaler.hpp"

#include "tests/support/refusal.hpp"
#include "troupe/base/failure.hpp"
#include "troupe/modules/options/precision.hpp"
#include "troupe/runtime/precision/autocast.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

namespace troupe {
namespace {

using ::testing::HasSubstr;

constexpr float infinity = std::numeric_limits<float>::infinity();

// One parameter w with the gradient that a test gives it, of optimizer `index`.
struct Step {
  torch::Tensor w = torch::ones({2}, torch::requires_grad());
  torch::optim::SGD optimizer{{w}, 0.1};
  std::size_t index = 0;

  void pass(GradScaler& scaler, float gradient) {
    scaler.begin_pass(w.grad().defined() ? std::vector<torch::Tensor>{w.grad()} : std::vector<torch::Tensor>());
    scaler.scale((w * gradient).sum()).backward();
    scaler.unscale(index, {w.grad()});
  }
  bool apply(GradScaler& scaler) {
    const bool allowed = scaler.allows_step(index);
    if (allowed) optimizer.step();
    return allowed;
  }
  bool take(GradScaler& scaler, float gradient) {
    optimizer.zero_grad();
    pass(scaler, gradient);
    return apply(scaler);
  }
};

TEST(GradScaler, AScaledStepIsThePlainStep) {
  GradScaler scaler(torch::kCPU);
  Step step;
  EXPECT_TRUE(step.take(scaler, 3));
  EXPECT_TRUE(torch::allclose(step.w, torch::full({2}, 0.7)));
  EXPECT_EQ(step.w.grad()[0].item<float>(), 3);
  EXPECT_TRUE(step.apply(scaler));
  EXPECT_TRUE(torch::allclose(step.w, torch::full({2}, 0.4)));
}

TEST(GradScaler, APassAddsToGradientsThatAreThere) {
  GradScaler scaler(torch::kCPU);
  Step step;
  step.pass(scaler, 3);
  step.apply(scaler);
  step.pass(scaler, 0.25);
  EXPECT_EQ(step.w.grad()[0].item<float>(), 3.25);
}

TEST(GradScaler, DividesAGradientOfTwoOptimizersOnceAndFindsItsOverflowForBoth) {
  GradScaler scaler(torch::kCPU);
  Step step;
  scaler.begin_pass({});
  scaler.scale((step.w * torch::tensor({3.0F, infinity})).sum()).backward();
  const auto own = torch::ones({1});
  scaler.unscale(0, {step.w.grad()});
  scaler.unscale(1, {own, step.w.grad()});
  EXPECT_EQ(step.w.grad()[0].item<float>(), 3);
  EXPECT_EQ(own.item<float>(), 1 / 65536.0F);
  EXPECT_FALSE(scaler.allows_step(0));
  EXPECT_FALSE(scaler.allows_step(1));
  EXPECT_EQ(scaler.current_scale(), 32768);
}

TEST(GradScaler, AnOverflowStaysWithTheGradientsUntilTheyAreCleared) {
  GradScaler scaler(torch::kCPU);
  Step step;
  step.pass(scaler, infinity);
  step.pass(scaler, 1);
  EXPECT_FALSE(step.apply(scaler));
  step.optimizer.zero_grad();
  step.pass(scaler, 1);
  EXPECT_TRUE(step.apply(scaler));
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
  bad.index = 1;
  scaler.begin_pass({});
  scaler.scale((good.w + bad.w * infinity).sum()).backward();
  scaler.unscale(0, {good.w.grad()});
  scaler.unscale(1, {bad.w.grad()});
  EXPECT_TRUE(good.apply(scaler));
  EXPECT_FALSE(bad.apply(scaler));
  EXPECT_FALSE(bad.apply(scaler));
  EXPECT_EQ(scaler.current_scale(), 4);  // once, however many steps were made of the pass
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

TEST(Precision, HasAFormatAndBits) {
  EXPECT_EQ(parameter_type(Precision::bfloat16_true), torch::kBFloat16);
  EXPECT_EQ(parameter_type(Precision::float16_mixed), torch::kFloat32);
  EXPECT_EQ(bits_of(Precision::bfloat16_mixed), 16);
}

TEST(Autocast, CastsParametersAnewAfterAStretchWithoutIt) {
  const auto weight = torch::ones({1, 1}, torch::requires_grad()), x = torch::ones({1, 1});
  const Autocast autocast(Precision::bfloat16_mixed, torch::kCPU);
  EXPECT_EQ(x.mm(weight).item<float>(), 1);
  {
    const AutocastOff step(torch::kCPU);
    const torch::NoGradGuard no_gradients;
    weight.fill_(2);
  }
  EXPECT_EQ(x.mm(weight).item<float>(), 2);
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
