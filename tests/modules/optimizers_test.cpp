// Held against LibTorch's own Adam and AdamW in float64, to 1e-12 after 20 steps.
#include "troupe/modules/optim/fused_adam.hpp"

#include "troupe/modules/failure.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace troupe::optim {
namespace {

std::vector<torch::Tensor> starting_point() {
  return {torch::linspace(-1, 1, 12, torch::kFloat64).reshape({3, 4}).clone().requires_grad_(),
          torch::linspace(0.5, 2, 5, torch::kFloat64).clone().requires_grad_()};
}

torch::Tensor loss_of(const std::vector<torch::Tensor>& parameters) {
  return (parameters[0].pow(4).sum() + (parameters[1] - 3).cos().sum()) * parameters[1].mean();
}

void expect_equal_steps(torch::optim::Optimizer& ours, torch::optim::Optimizer& reference) {
  for (int i = 0; i < 20; ++i) {
    for (auto* optimizer : {&ours, &reference}) {
      optimizer->zero_grad();
      loss_of(optimizer->parameters()).backward();
      optimizer->step();
    }
  }
  for (std::size_t i = 0; i < ours.parameters().size(); ++i) {
    EXPECT_TRUE(torch::allclose(ours.parameters()[i], reference.parameters()[i], 0, 1e-12)) << "parameter " << i;
  }
  EXPECT_FALSE(torch::allclose(ours.parameters()[0], starting_point()[0], 0, 1e-3)) << "nothing was trained";
}

TEST(FusedAdam, TakesTheStepsOfAdam) {
  const auto ours = adam(starting_point(), {.lr = 0.05, .weight_decay = 0.1});
  torch::optim::Adam reference(starting_point(), torch::optim::AdamOptions(0.05).weight_decay(0.1));
  expect_equal_steps(*ours, reference);
}

TEST(FusedAdam, TakesTheStepsOfAdamWithAmsgrad) {
  const auto ours = adam(starting_point(), {.lr = 0.05, .amsgrad = true});
  torch::optim::Adam reference(starting_point(), torch::optim::AdamOptions(0.05).amsgrad(true));
  expect_equal_steps(*ours, reference);
}

TEST(FusedAdam, TakesTheStepsOfAdamW) {
  const auto ours = adamw(starting_point(), {.lr = 0.05, .weight_decay = 0.1});
  torch::optim::AdamW reference(starting_point(), torch::optim::AdamWOptions(0.05).weight_decay(0.1));
  expect_equal_steps(*ours, reference);
}

TEST(FusedAdam, LeavesParametersWithoutAGradientAlone) {
  const auto ours = adam(starting_point(), {.lr = 0.05});
  ours->parameters()[0].pow(2).sum().backward();
  ours->step();
  EXPECT_TRUE(torch::equal(ours->parameters()[1], starting_point()[1]));
  EXPECT_FALSE(torch::equal(ours->parameters()[0], starting_point()[0]));
  EXPECT_FALSE(ours->state_tensors().step[1].defined());
}

TEST(FusedAdam, RefusesOptionsOutOfRange) {
  EXPECT_THROW(adam(starting_point(), {.lr = -1}), UsageError);
  EXPECT_THROW(adam(starting_point(), {.lr = std::nan("")}), UsageError);
  EXPECT_THROW(adam(starting_point(), {.betas = {0.9, 1.0}}), UsageError);
}

}  // namespace
}  // namespace troupe::optim
