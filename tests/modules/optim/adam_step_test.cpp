#include "troupe/modules/optim/adam_step.hpp"

#include "troupe/base/fast_loop.hpp"
#include "troupe/modules/optim/adam.hpp"

#include <ATen/Version.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace troupe::optim {
namespace {

constexpr auto infinity = std::numeric_limits<float>::infinity();

class AdamStep : public testing::TestWithParam<std::pair<Decay, double>> {
 protected:
  void SetUp() override {
    torch::set_num_threads(1);
    torch::manual_seed(0);
  }
  void TearDown() override { torch::set_num_threads(threads_); }

  using State = AdamLists;

  static State random_state(const std::vector<int64_t>& sizes, float step) {
    State state;
    for (const int64_t size : sizes) {
      state.parameters.push_back(torch::randn(size));
      state.gradients.push_back(torch::randn(size) * torch::pow(10, torch::empty(size).uniform_(-12, 3)));
      state.exp_avg.push_back(torch::randn(size) * 1e-3);
      state.exp_avg_sq.push_back(torch::rand(size) * torch::pow(10, torch::empty(size).uniform_(-20, 3)));
      state.steps.push_back(torch::full({}, step));
    }
    return state;
  }

  static State copy_of(const State& state) {
    State copy = state;
    for (auto* list : {&copy.parameters, &copy.gradients, &copy.exp_avg, &copy.exp_avg_sq, &copy.steps}) {
      for (auto& tensor : *list) tensor = tensor.clone();
    }
    return copy;
  }

  static AdamNumbers numbers() {
    return {.lr = 1e-3, .betas = {0.9, 0.999}, .weight_decay = GetParam().second, .eps = 1e-8};
  }

  static bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
    return torch::equal(a.view(torch::kInt32), b.view(torch::kInt32));
  }

  static void expect_same_bits(const State& ours, const State& theirs) {
    for (std::size_t i = 0; i < ours.parameters.size(); ++i) {
      EXPECT_TRUE(same_bits(ours.parameters[i], theirs.parameters[i])) << "tensor " << i;
      EXPECT_TRUE(same_bits(ours.exp_avg[i], theirs.exp_avg[i])) << "tensor " << i;
      EXPECT_TRUE(same_bits(ours.exp_avg_sq[i], theirs.exp_avg_sq[i])) << "tensor " << i;
    }
  }

  // A step of each over copies of one state.
  static void expect_same_step(const State& state, const AdamNumbers& numbers) {
    const auto ours = copy_of(state), theirs = copy_of(state);
    adam_step(GetParam().first, numbers, ours.tensors());
    libtorch_adam_step(GetParam().first, numbers, theirs.tensors());
    expect_same_bits(ours, theirs);
  }

 private:
  int threads_ = torch::get_num_threads();
};

// A LibTorch whose kernel rounds in another way would get no loop of ours, silently slower: it has to be noticed here.
TEST_P(AdamStep, TheLoopIsUsedWhereTheProcessorAllowsIt) {
  const auto capability = at::get_cpu_capability();
  const bool allows = TROUPE_HAS_FAST_LOOPS && (capability == "AVX2" || capability == "AVX512");
  EXPECT_EQ(has_own_adam_loop(GetParam().first), allows);
}

TEST_P(AdamStep, HasTheBitsOfLibTorchForEverySizeAndStep) {
  for (const float step : {1.F, 2.F, 10.F, 12345.F, 1e6F}) {
    std::vector<int64_t> sizes(70);
    for (std::size_t i = 0; i < sizes.size(); ++i) sizes[i] = static_cast<int64_t>(i);
    sizes.push_back(10'007);
    expect_same_step(random_state(sizes, step), numbers());
  }
}

// Large tensors are divided among them, and then something is left over eight in each part.
TEST_P(AdamStep, HasThemWithSeveralThreads) {
  for (const int threads : {2, 3}) {
    torch::set_num_threads(threads);
    expect_same_step(random_state({1, 2, 3, 7, 15, 16, 17, 41, 1003, 32'768, 50'003}, 4), numbers());
    expect_same_step(random_state({50'003}, 4), numbers());
  }
}

TEST_P(AdamStep, HasThemForExtremeNumbers) {
  const std::vector<float> extremes = {0.F, -0.F, infinity, -infinity, 1e-45F, -1e-38F, 3e38F, 1e-30F, 1.F};
  auto state = random_state({}, 3);
  for (const float gradient : extremes) {
    for (const float average : extremes) {
      for (const float square : extremes) {
        state.parameters.push_back(torch::full({11}, 0.5F));
        state.gradients.push_back(torch::full({11}, gradient));
        state.exp_avg.push_back(torch::full({11}, average));
        state.exp_avg_sq.push_back(torch::full({11}, std::abs(square)));
        state.steps.push_back(torch::full({}, 3.F));
      }
    }
  }
  const auto ours = copy_of(state), theirs = copy_of(state);
  adam_step(GetParam().first, numbers(), ours.tensors());
  libtorch_adam_step(GetParam().first, numbers(), theirs.tensors());
  for (std::size_t i = 0; i < state.parameters.size(); ++i) {
    for (const auto& [a, b] :
         {std::pair(ours.parameters[i], theirs.parameters[i]), std::pair(ours.exp_avg[i], theirs.exp_avg[i]),
          std::pair(ours.exp_avg_sq[i], theirs.exp_avg_sq[i])}) {
      // All NaNs are one.
      EXPECT_TRUE(same_bits(a.nan_to_num(42), b.nan_to_num(42)) && torch::equal(a.isnan(), b.isnan())) << i;
    }
  }
}

TEST_P(AdamStep, HasThemForOtherNumbersThanTheDefaults) {
  const auto state = random_state({37, 256}, 5);
  for (const auto betas : {std::pair(0.0, 0.0), std::pair(0.3, 0.5), std::pair(0.99, 0.9), std::pair(0.5, 1 - 1e-15)}) {
    auto other = numbers();
    other.betas = betas;
    other.lr = 0.3;
    other.eps = 0;
    expect_same_step(state, other);
  }
  auto up = numbers();
  up.maximize = true;
  expect_same_step(state, up);
}

// What the loop cannot do goes to LibTorch's kernel.
TEST_P(AdamStep, TakesOtherTypes) {
  auto doubles = random_state({37}, 5);
  for (auto* list : {&doubles.parameters, &doubles.gradients, &doubles.exp_avg, &doubles.exp_avg_sq}) {
    (*list)[0] = (*list)[0].to(torch::kFloat64);
  }
  const auto ours = copy_of(doubles), theirs = copy_of(doubles);
  adam_step(GetParam().first, numbers(), ours.tensors());
  libtorch_adam_step(GetParam().first, numbers(), theirs.tensors());
  EXPECT_TRUE(torch::equal(ours.parameters[0], theirs.parameters[0]));
  EXPECT_FALSE(torch::equal(ours.parameters[0], doubles.parameters[0]));
}

INSTANTIATE_TEST_SUITE_P(Decays, AdamStep,
                         testing::Values(std::pair(Decay::l2, 0.0), std::pair(Decay::l2, 1e-2),
                                         std::pair(Decay::decoupled, 0.0), std::pair(Decay::decoupled, 1e-2)));

// Autograd finds out that a weight that it needs was changed by a step.
TEST(AdamStepAndAutograd, AWeightThatBackwardNeedsCannotChangeUnseen) {
  torch::set_num_threads(1);
  const auto weight = torch::ones({3, 3}, torch::requires_grad());
  const auto optimizer = adam({weight});
  const auto input = torch::ones({2, 3}, torch::requires_grad());
  const auto loss = input.mm(weight).sum();
  loss.backward({}, /*retain_graph=*/true);
  optimizer->step();
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(DivideAll, IsTheProcessorsDivisionForEveryFraction) {
  constexpr int64_t fractions = int64_t{1} << 23, at_once = int64_t{1} << 16;
  std::vector<float> dividends(at_once), quotients(at_once);
  int64_t different = 0;
  for (const float by : {std::sqrt(1 - 0.999F), 0.7F, std::nextafter(1.F, 0.F), std::nextafter(0.5F, 0.F), 0x1p-20F}) {
    for (int64_t first = 0; first < fractions; first += at_once) {
      for (int64_t i = 0; i < at_once; ++i) {
        dividends[static_cast<std::size_t>(i)] = std::bit_cast<float>(static_cast<int32_t>(0x3F000000 + first + i));
      }
      divide_all(dividends.data(), by, at_once, quotients.data());
      for (std::size_t i = 0; i < quotients.size(); ++i) different += quotients[i] != dividends[i] / by;
    }
  }
  EXPECT_EQ(different, 0);
}

TEST(DivideAll, HasItsZeroInfinityAndNaN) {
  const std::array<float, 3> dividends = {0.F, infinity, std::numeric_limits<float>::quiet_NaN()};
  std::array<float, 3> quotients{};
  divide_all(dividends.data(), 0.3F, 3, quotients.data());
  EXPECT_EQ(std::bit_cast<uint32_t>(quotients[0]), 0U);
  EXPECT_EQ(quotients[1], infinity);
  EXPECT_TRUE(std::isnan(quotients[2]));
}

}  // namespace
}  // namespace troupe::optim
